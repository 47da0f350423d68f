"""What an answer says to whoever makes another one of it, by the rules of this cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching import storing
from extproc.caching.control import TARGETS, directives, of_response
from extproc.caching.freshness import lifetime
from extproc.caching.policy import Policy
from extproc.core.ports import Reuse

if TYPE_CHECKING:
    from extproc.caching.control import Directives
    from extproc.core.headers import Headers

# Without any of these an answer says nothing of its reuse.
SAYING = (
    "cache-control",
    "expires",
    "last-modified",
    "set-cookie",
    "vary",
    storing.PARTIAL_AGGREGATE,
    *TARGETS,
)
SILENT = Reuse()
_ASKED, _POLICY = storing.Asked(), Policy()
_FOR_ONE = frozenset({"private", "set-cookie"})


def reuse(status: int, headers: Headers, age: float, came: float) -> Reuse:
    """Return what an answer says of its reuse.

    Args:
        status: of the answer.
        headers: of the answer.
        age: how old it is now, seconds.
        came: when it came, seconds since the epoch.
    """
    if not headers.has_any(SAYING):
        return SILENT
    said = of_response(headers)
    shared = _left(status, headers, said, age, came)
    clients, everybody = shared, [said]
    if said.targeted or "s-maxage" in said:
        # What is made of it can't say one thing to us and another to the rest.
        everybody.append(directives(headers))
        clients = _left(status, headers, everybody[1].without("s-maxage"), age, came)
    reasons = {storing.forbidden(_ASKED, status, headers, one, _POLICY) for one in everybody}
    return Reuse(
        shared,
        clients,
        never=not reasons <= _FOR_ONE | {""},
        private=not reasons.isdisjoint(_FOR_ONE),
        validate=any("no-cache" in one for one in everybody),
        never_stale=any(storing.never_stale(one) for one in everybody),
    )


def _left(status: int, headers: Headers, said: Directives, age: float, came: float) -> float | None:
    named = lifetime(status, headers, said, came)
    known = named.explicit or named.seconds > 0
    return max(named.seconds - age, 0.0) if known else None
