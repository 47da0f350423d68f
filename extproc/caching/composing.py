"""What an answer says to whoever makes another one of it, by the rules of this cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching import selecting, storing
from extproc.caching.control import TARGETS, directives, of_response
from extproc.caching.freshness import lifetime
from extproc.caching.policy import Policy
from extproc.core.answered import Reuse

if TYPE_CHECKING:
    from extproc.caching.freshness import Lifetime
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


def reuse(status: int, headers: Headers, came: float) -> Reuse:
    """Return what an answer says of its reuse.

    Args:
        status: of the answer.
        headers: of the answer.
        came: when it came, seconds since the epoch.
    """
    if not headers.has_any(SAYING):
        return SILENT
    said = of_response(headers)
    shared = clients = lifetime(status, headers, said, came)
    everybody = [said]
    if said.targeted or "s-maxage" in said:
        # What is made of it can't say one thing to us and another to the rest.
        everybody.append(directives(headers))
        clients = lifetime(status, headers, everybody[1].without("s-maxage"), came)
    reasons = {storing.forbidden(_ASKED, status, headers, one, _POLICY) for one in everybody}
    demands = {
        "no-store": not reasons <= _FOR_ONE | {""},
        "private": not reasons.isdisjoint(_FOR_ONE),
        "no-cache": any("no-cache" in one for one in everybody),
        "must-revalidate": any(storing.never_stale(one) for one in everybody),
    }
    holding = frozenset([name for name, holds in demands.items() if holds])
    varies = frozenset(selecting.varying(headers) or ())
    guesses = [one.seconds for one in (shared, clients) if not one.explicit and one.seconds > 0]
    return Reuse(_named(shared), _named(clients), holding, varies, min(guesses, default=None))


def _named(found: Lifetime) -> float | None:
    return found.seconds if found.explicit else None
