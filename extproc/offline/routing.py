"""The route that the compiled Envoy would take, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.config.schema import Route
from extproc.config.schema.shapes import is_method
from extproc.core.routes import PathPattern
from extproc.envoy_config.matching import (
    ANY_HOST,
    hosts,
    in_order,
    methods_of,
    refused_methods,
    serves,
    takes,
)
from extproc.envoy_config.routes import PUBLISHED_AT, PUBLISHED_BY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from extproc.config.schema import Match
    from extproc.offline.edge import Arrival


@dataclass(frozen=True, slots=True)
class Matched:
    """A route takes the request.

    Attributes:
        route: its model.
        virtual_host: the hosts by which Envoy found it; `*` for any.
        passed_over: more specific routes and why they don't take it.
    """

    route: Route
    virtual_host: str
    passed_over: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotMatched:
    """Envoy answers by itself.

    Attributes:
        status: 404, 405, 400 for an upgrade that the route doesn't allow, or 200 for the keys.
        details: Envoy's response code details.
        why: for people.
        allow: the methods that the path knows; for 405.
        passed_over: routes and why they don't take the request.
    """

    status: int
    details: str
    why: str
    allow: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


class Routing:
    """Finds routes as the virtual hosts of a gateway file do."""

    def __init__(self, routes: Sequence[Route], *, published: bool) -> None:
        self._hosts = hosts(routes)
        self._published = published
        self._by_host = {
            host: [route for route in in_order(routes) if serves(route, host)]
            for host in self._hosts
        }

    def find(self, arrival: Arrival) -> Matched | NotMatched:
        """Return the route that takes a request, or why none does."""
        host = self._virtual_host(arrival.authority.lower())
        routes = self._by_host[host]
        if self._published and arrival.path == PUBLISHED_AT:
            if arrival.method not in PUBLISHED_BY:
                why = f"{PUBLISHED_AT} takes {', '.join(PUBLISHED_BY)}"
                return NotMatched(405, "direct_response", why, PUBLISHED_BY)
            return NotMatched(200, "direct_response", "the keys of identity assertions")
        passed_over: list[str] = []
        for route in routes:
            problem = _problem(route, arrival)
            if problem is None:
                return _allowed_upgrade(route, arrival) or Matched(route, host, tuple(passed_over))
            passed_over.append(f"{route.name}: {problem}")
        return _nothing(routes, arrival, tuple(passed_over))

    def _virtual_host(self, authority: str) -> str:
        """Envoy takes an exact name, then the longest suffix, then any."""
        if authority in self._by_host:
            return authority
        wild = [h for h in self._hosts if h.startswith("*.") and _below(authority, h[1:])]
        return max(wild, key=len, default=ANY_HOST)


def _below(authority: str, suffix: str) -> bool:
    return authority.endswith(suffix) and len(authority) > len(suffix)


def _allowed_upgrade(route: Route, arrival: Arrival) -> NotMatched | None:
    if not arrival.upgrade or arrival.upgrade in route.upgrade:
        return None
    return NotMatched(400, "upgrade_failed", f"{route.name} doesn't switch to {arrival.upgrade}")


def _problem(route: Route, arrival: Arrival) -> str | None:
    """Return why a route doesn't take a request; None if it does."""
    match = route.match
    if not PathPattern.parse(match.path).matches(arrival.path):
        return f"the path isn't {match.path}"
    if not takes(match, arrival.method):
        methods = methods_of(match) or ("any method in capitals",)
        return f"{arrival.method} isn't among {', '.join(methods)}"
    return _condition_problem(match, arrival)


def _condition_problem(match: Match, arrival: Arrival) -> str | None:
    for name, wanted in match.headers.items():
        values = [value for known, value in arrival.fields if known == name.lower()]
        if not _fits(wanted, values):
            return f"the header {name} isn't {_wanted(wanted)}"
    for name, wanted in match.query.items():
        if not _fits(wanted, _parameters(arrival.target, name)[:1]):
            return f"the query parameter {name} isn't {_wanted(wanted)}"
    return None


def _fits(wanted: str | bool, values: Iterable[str]) -> bool:  # noqa: FBT001 - true means present
    return any(wanted is True or value == wanted for value in values)


def _wanted(wanted: str | bool) -> str:  # noqa: FBT001 - as above
    return "there" if wanted is True else str(wanted)


def _parameters(target: str, name: str) -> list[str]:
    """Return a parameter's values as they were sent: Envoy compares without decoding."""
    pairs = (pair.partition("=") for pair in target.partition("?")[2].split("&") if pair)
    return [value for known, _, value in pairs if known == name]


def _nothing(routes: Sequence[Route], arrival: Arrival, passed_over: tuple[str, ...]) -> NotMatched:
    if arrival.upgrade:
        why = f"no route switches to {arrival.upgrade}"
        return NotMatched(400, "upgrade_failed", why, passed_over=passed_over)
    if not is_method(arrival.method):
        why = f"{arrival.method[:40]} isn't written as methods are, in capitals"
        return NotMatched(400, "direct_response", why, passed_over=passed_over)
    for refused in refused_methods(routes):
        fits = PathPattern.parse(refused.path).matches(arrival.path)
        if refused.allow and fits and arrival.method not in refused.allow:
            why = f"{refused.path} takes {', '.join(refused.allow)}"
            return NotMatched(405, "direct_response", why, refused.allow, passed_over)
    return NotMatched(404, "direct_response", "no route takes it", passed_over=passed_over)
