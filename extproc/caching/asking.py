"""What a request says to caches: directives (RFC 9111 section 5.2.1) and Pragma (section 5.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from extproc.caching.control import directives

if TYPE_CHECKING:
    from extproc.core.headers import Headers

_DIGITS = re.compile(r"\d+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asks:
    """What a request demands of a stored response.

    Attributes:
        no_cache: it must be validated.
        no_store: nothing of the exchange may be stored.
        only_if_cached: the upstream isn't to be asked.
        max_age: how old it may be, seconds.
        min_fresh: how much longer it must be fresh, seconds; less than 0 if that isn't said.
        max_stale: how long it may have been stale, seconds; None for not at all.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float = inf
    min_fresh: float = -inf
    max_stale: float | None = None


NOTHING = Asks()


def asks(headers: Headers) -> Asks:
    """Read a request's directives; Pragma counts where there are none."""
    if "cache-control" not in headers:
        pragma = headers.get("pragma")
        return Asks(no_cache=True) if pragma is not None and _no_cache(pragma) else NOTHING
    said = directives(headers)
    return _read_again(
        *(name in said for name in ("no-cache", "no-store", "only-if-cached", "max-stale")),
        *(said.argument(name) for name in ("max-stale", "max-age", "min-fresh")),
        "max-age" in said,
    )


@lru_cache(maxsize=256)
def _read_again(
    no_cache: bool,  # noqa: FBT001 - the key of a memory
    no_store: bool,  # noqa: FBT001 - as above
    only: bool,  # noqa: FBT001 - as above
    stale: bool,  # noqa: FBT001 - as above
    max_stale: str | None,
    max_age: str | None,
    min_fresh: str | None,
    aged: bool,  # noqa: FBT001 - as above
) -> Asks:
    longest = None
    if stale:
        longest = inf if max_stale is None else _number(max_stale, 0.0)
    return Asks(
        no_cache,
        no_store,
        only,
        _number(max_age, 0.0) if aged else inf,
        _number(min_fresh, -inf),
        longest,
    )


def _number(text: str | None, otherwise: float) -> float:
    return float(text[:20]) if text is not None and _DIGITS.match(text) else otherwise


def _no_cache(pragma: str) -> bool:
    return "no-cache" in [part.strip().lower() for part in pragma.split(",")]
