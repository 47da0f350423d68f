"""What an answer says to caches further on: by what it varies, and that it is for one client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.headers import Headers
    from extproc.core.values import Request

UNSEEN = ":unseen"
"""Among the headers by which an answer varies: so it does by what no header tells.

The client's address is such a thing, and who somebody with a certificate is. No header has this
name.
"""

_FOR_ONE = frozenset({"private", "no-store"})
_TARGETED = "cdn-cache-control"  # would replace Cache-Control for whom it means (RFC 9213)


def vary(headers: Headers, names: Iterable[str]) -> None:
    """Name what an answer varies by, beside what it names already.

    Args:
        headers: of the answer.
        names: of the client's headers, in lower case; `UNSEEN` is left out.
    """
    known = varying(headers)
    for name in sorted(set(names) - known - {UNSEEN}):
        headers.add("vary", name)


def varying(headers: Headers) -> frozenset[str]:
    """Return the names in an answer's Vary, in lower case."""
    value = headers.get("vary") or ""
    return frozenset([name.strip().lower() for name in value.split(",")]) - {""}


def alone(headers: Headers) -> None:
    """Say that an answer is for one client, unless it says so already."""
    control = headers.get("cache-control") or ""
    said = [part.strip() for part in control.split(",") if part.strip()]
    if not _FOR_ONE.isdisjoint([part.lower() for part in said]):
        return
    kept = [part for part in said if part.lower() != "public"]
    headers["cache-control"] = ", ".join(["private", *kept])
    del headers[_TARGETED]


def changed(request: Request) -> frozenset[str]:
    """Return the names of the headers that plugins wrote or removed in this phase."""
    return frozenset([name for name, _ in request.headers.written()])
