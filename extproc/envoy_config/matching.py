"""Which request takes which route: virtual hosts, order, and what no route takes.

Envoy takes a virtual host first and then the first route that matches, so each virtual host
lists every route that its hosts may take, most specific first (contract: segment by segment
literal, `{name}`, `/*`; exact host, `*.`, none; more conditions before fewer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    QueryParameterMatcher,
    RouteMatch,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from extproc.config.schema.shapes import METHOD, is_method
from extproc.core.routes import PathPattern
from extproc.envoy_config.covering import wider_paths
from extproc.envoy_config.shapes import exactly, matching, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from extproc.config.schema import Match, Route
    from extproc.envoy_config.shapes import Json

_NOT_LETTER = "[^a-z0-9]"
# Envoy refuses an expression that RE2 compiles to more than 100 instructions
# (`re2.max_program_size.error_level`): 4 for the whole, 1 for a letter, 3 for a class like that of
# separators, and 2 for what stands in a gap.
_MOST_INSTRUCTIONS = 90
_HALF = _MOST_INSTRUCTIONS // 2
_SEPARATOR = 3
ANY_HOST = "*"
USUAL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
_KIND_OF_SEGMENT = {"literal": 0, "parameter": 1, "rest": 2}


# What Envoy's parser of HTTP/1.1 takes by itself; for others it has a setting of its own.
KNOWN = frozenset(
    {
        *("ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK"),
        *("MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "MSEARCH", "NOTIFY", "OPTIONS"),
        *("PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT"),
        *("SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE"),
    }
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A path that routes exist for, but not with this method.

    Attributes:
        path: the pattern.
        allow: the methods of every route whose paths include this pattern's.
    """

    path: str
    allow: tuple[str, ...]


def names_methods(routes: Iterable[Route]) -> bool:
    """Say whether a route takes methods that Envoy's parser of HTTP/1.1 doesn't know."""
    return any(
        route.match.methods == "any" or not KNOWN.issuperset(route.match.methods or ())
        for route in routes
    )


def takes(match: Match, method: str) -> bool:
    """Say whether a route takes a method; any is each that is written as methods are."""
    methods = methods_of(match)
    return is_method(method) if methods is None else method in methods


def methods_of(match: Match) -> tuple[str, ...] | None:
    """Return the methods a route takes; None for any. GET answers HEAD too."""
    if match.methods == "any":
        return None
    if match.methods is None:
        return USUAL_METHODS
    methods = dict.fromkeys(match.methods)
    if "GET" in methods:
        methods["HEAD"] = None
    return tuple(methods)


def hosts(routes: Iterable[Route]) -> list[str]:
    """Return every host that routes name, and `*` last."""
    named = dict.fromkeys(route.match.host for route in routes if route.match.host)
    return [*named, ANY_HOST]


def serves(route: Route, host: str) -> bool:
    """Say whether a route belongs in the virtual host of these hosts."""
    wanted = route.match.host
    if wanted is None or wanted == host:
        return True
    return (
        wanted.startswith("*.") and host != ANY_HOST and host.removeprefix("*").endswith(wanted[1:])
    )


def in_order(routes: Iterable[Route]) -> list[Route]:
    """Return routes most specific first."""
    return sorted(routes, key=_specificity)


def _specificity(route: Route) -> tuple[object, ...]:
    match = route.match
    host_rank = 2 if match.host is None else 1 if match.host.startswith("*.") else 0
    # A longer wildcard suffix is more specific than a shorter one.
    host_length = -len(match.host or "")
    conditions = len(match.headers) + len(match.query)
    return (_path_rank(match.path), host_rank, host_length, -conditions)


def _path_rank(path: str) -> tuple[tuple[int, str], ...]:
    pattern = PathPattern.parse(path)
    ranks = [
        (_KIND_OF_SEGMENT["parameter"], "")
        if segment.startswith("{")
        else (_KIND_OF_SEGMENT["literal"], segment)
        for segment in pattern.segments
    ]
    if pattern.open_ended:
        ranks.append((_KIND_OF_SEGMENT["rest"], ""))
    return tuple(ranks)


def path_match(path: str) -> RouteMatch:
    """Return the match of a path alone."""
    pattern = PathPattern.parse(path)
    if not pattern.has_params:
        literal = "/" + "/".join(pattern.segments) if pattern.segments else ""
        return RouteMatch(prefix=literal + "/") if pattern.open_ended else RouteMatch(path=path)
    segments = [
        "[^/]+" if segment.startswith("{") else re.escape(segment) for segment in pattern.segments
    ]
    expression = "/" + "/".join(segments) + ("/.*" if pattern.open_ended else "")
    return RouteMatch(safe_regex=matching(expression))


def with_header(match: RouteMatch, name: str, value: str) -> RouteMatch:
    """Return a match that also wants a header."""
    match.headers.append(_header(name, value))
    return match


def conditions(match: Match) -> RouteMatch:
    """Return the match of a route but for its methods, see `with_method`."""
    result = path_match(match.path)
    for name, value in match.headers.items():
        result.headers.append(_header(name.lower(), value))
    for name, value in match.query.items():
        result.query_parameters.append(_query(name, value))
    return result


def with_method(match: Json, methods: tuple[str, ...] | None, *, other: bool = False) -> Json:
    """Return a match that was written as JSON, with a condition on the method before its others.

    Args:
        match: of a path, for example.
        methods: any of these; None for whatever is written as a method.
        other: any other one instead. With one of these the path is taken, or a route's other
            conditions don't hold: then there is nothing here (404).
    """
    return {**match, "headers": [_method(methods, other=other), *match.get("headers", ())]}


def no_method() -> Json:
    """Return the match of what isn't written as a method: `get`, or one that is endlessly long."""
    return with_method(plain(RouteMatch(prefix="")), None, other=True)


@lru_cache(maxsize=256)  # few are different, and each stands in a route for each host
def _method(methods: tuple[str, ...] | None, *, other: bool) -> Json:
    matcher = _any_method() if methods is None else _method_in(methods)
    matcher.invert_match = other
    return plain(matcher)


def _any_method() -> HeaderMatcher:
    return HeaderMatcher(name=":method", string_match=StringMatcher(safe_regex=matching(METHOD)))


def _method_in(methods: Sequence[str]) -> HeaderMatcher:
    if len(methods) == 1:
        return HeaderMatcher(name=":method", string_match=exactly(methods[0]))
    expression = "|".join(re.escape(method) for method in methods)
    return HeaderMatcher(
        name=":method", string_match=StringMatcher(safe_regex=matching(expression))
    )


def _header(name: str, value: str | bool) -> HeaderMatcher:  # noqa: FBT001 - true means present
    if isinstance(value, bool):
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=exactly(value))


def _query(name: str, value: str | bool) -> QueryParameterMatcher:  # noqa: FBT001 - as above
    if isinstance(value, bool):
        return QueryParameterMatcher(name=name, present_match=True)
    return QueryParameterMatcher(name=name, string_match=exactly(value))


def refused_methods(
    routes: Sequence[Route], wider: Mapping[str, frozenset[str]] | None = None
) -> list[Refused]:
    """Return, most specific first, each pattern that doesn't take every method.

    Args:
        routes: of a virtual host.
        wider: what `wider_paths` says of these routes or more; None to look here.
    """
    known = wider_paths(route.match.path for route in routes) if wider is None else wider
    places: dict[str, list[int]] = {}
    for place, route in enumerate(routes):
        places.setdefault(route.match.path, []).append(place)
    methods = [methods_of(route.match) or () for route in routes]
    refused = []
    for path in dict.fromkeys(route.match.path for route in in_order(routes)):
        covering = sorted(place for wide in known[path] for place in places.get(wide, ()))
        allow = dict.fromkeys(method for place in covering for method in methods[place])
        refused.append(Refused(path, tuple(allow)))
    return refused


def spellings(name: str) -> str:
    """Return an expression for every name of a header that an upstream may take for this one.

    Of a name too long for Envoy the middle is left out: whatever begins and ends as it does.
    """
    pieces = [piece if piece.isalnum() else _NOT_LETTER for piece in name]
    if sum(map(_cost, pieces)) <= _MOST_INSTRUCTIONS:
        return "".join(pieces)
    head, tail = _affordable(pieces), _affordable(pieces[::-1])
    return "".join([*head, ".*", *reversed(tail)])


def _affordable(pieces: Sequence[str]) -> list[str]:
    """Return as many of the first pieces as half of an expression may have."""
    spent = accumulate(map(_cost, pieces))
    return [piece for piece, all_ in zip(pieces, spent, strict=True) if all_ <= _HALF]


def _cost(piece: str) -> int:
    return _SEPARATOR if piece == _NOT_LETTER else 1
