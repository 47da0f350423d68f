"""Asking the upstream whether what is stored is still good (RFC 9111 section 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching.conditions import weakly_equal
from extproc.caching.fields import names
from extproc.caching.storing import NOT_STORED

if TYPE_CHECKING:
    from extproc.caching.entry import Entry, Pairs
    from extproc.core.headers import Headers

CONDITIONS = (
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
    "if-range",
    "range",
)
# What describes the stored content stays with it (sections 3.2 and 4.3.4).
_KEPT = frozenset({"content-encoding", "content-length", "content-md5", "content-range", "etag"})
ERRORS = frozenset({500, 502, 503, 504})  # RFC 5861 section 4


def conditions_for(entry: Entry) -> list[tuple[str, str]]:
    """Return the fields by which a stored response is validated (section 4.3.1)."""
    found = []
    if entry.etag:
        found.append(("if-none-match", entry.etag))
    if entry.modified:
        found.append(("if-modified-since", entry.modified))
    return found


def confirms(headers: Headers, entry: Entry) -> bool:
    """Say whether a 304 is about what is stored (section 4.3.4).

    One with a validator must have the stored one's; one without any confirms what was asked for.
    """
    tag = headers.get("etag")
    if tag is not None:
        return weakly_equal(tag, entry.etag)
    modified = headers.get("last-modified")
    return modified is None or modified == entry.modified or bool(entry.etag)


def freshened(stored: Pairs, headers: Headers) -> Pairs:
    """Return stored fields updated by a 304's (section 3.2): each replaces all of its name."""
    left_out = _KEPT | NOT_STORED | set(names(headers.get_all("connection")))
    new = [pair for pair in headers.items() if pair[0] not in left_out]
    replaced = {name for name, _ in new}
    return (*[pair for pair in stored if pair[0] not in replaced], *new)
