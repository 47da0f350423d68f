"""What no single part of the file can know: names that must exist, paths, matches that collide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from extproc.config.source import Key, written_path
from extproc.config.translate import near_name
from extproc.core.routes import PathPattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from extproc.config.schema import Gateway, Match, Route

Found = tuple[Key, str, str]

ANONYMOUS = "anonymous"
_PARAMETER = re.compile(r"\{[a-z_][a-z0-9_]*\}\Z")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%]*\Z")
_RESERVED_IDENTITY = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    }
)
_RESERVED_AUTHENTICATORS = (ANONYMOUS, "none")


def check(gateway: Gateway, folder: Path) -> tuple[list[Path], list[Found]]:
    """Check a validated gateway.

    Returns:
        Further files that it uses, and what is wrong: key, problem, expected.
    """
    files: list[Path] = []
    troubles = [
        *_identity(gateway),
        *_reserved(gateway),
        *_defaults(gateway),
        *_same_names(gateway),
        *(found for i, route in enumerate(gateway.routes) for found in _route(gateway, i, route)),
        *_own_plugins(gateway, folder, files),
    ]
    return files, troubles or list(_collisions(gateway))


def _identity(gateway: Gateway) -> Iterator[Found]:
    for name in gateway.identity.headers if gateway.identity is not None else ():
        if name in _RESERVED_IDENTITY or name.startswith("x-envoy-"):
            yield ("identity", "headers", name), "can't carry identity", "expected another header"


def _reserved(gateway: Gateway) -> Iterator[Found]:
    for name in _RESERVED_AUTHENTICATORS:
        if name in gateway.authentication:
            yield ("authentication", name), f"can't be called {name}", "expected another name"


def _defaults(gateway: Gateway) -> Iterator[Found]:
    names = gateway.defaults.authentication
    if names:
        yield from _authenticators(gateway, names, ("defaults", "authentication"))


def _same_names(gateway: Gateway) -> Iterator[Found]:
    first: dict[str, int] = {}
    for place, route in enumerate(gateway.routes):
        if route.name in first:
            problem = f"is the name of routes[{first[route.name]}] too"
            yield ("routes", place, "name"), problem, "expected another name"
        first.setdefault(route.name, place)


def _route(gateway: Gateway, place: int, route: Route) -> Iterator[Found]:
    key: Key = ("routes", place)
    yield from _path(route.match.path, (*key, "match", "path"))
    if route.upstream is not None:
        yield from _known(route.upstream, gateway.upstreams, "an upstream", (*key, "upstream"))
    if route.aggregate is not None:
        for part, call in route.aggregate.calls.items():
            where = (*key, "aggregate", "calls", part, "upstream")
            yield from _known(call.upstream, gateway.upstreams, "an upstream", where)
    for number, policy in enumerate(route.authorization):
        where = (*key, "authorization", number)
        yield from _known(policy, gateway.policies, "a policy", where)
    if route.authentication is None and gateway.defaults.authentication is None:
        yield (*key, "authentication"), "is missing", "say `none` out loud, or set defaults"
    yield from _authenticators(gateway, route.authentication or [], (*key, "authentication"))
    yield from _upgrade(route, key)


def _known(name: str, names: Iterable[str], what: str, key: Key) -> Iterator[Found]:
    known = list(names)
    if name not in known:
        yield key, f"names {name}, which isn't {what}", near_name(name, known)


def _authenticators(gateway: Gateway, names: list[str], key: Key) -> Iterator[Found]:
    for number, name in enumerate(names):
        if name != ANONYMOUS:
            yield from _known(name, gateway.authentication, "an authenticator", (*key, number))
    if names == [ANONYMOUS]:
        yield key, "is anonymous alone", "expected `none`"
    used = [gateway.authentication[name] for name in names if name in gateway.authentication]
    tokens = [authenticator.jwt for authenticator in used if authenticator.jwt is not None]
    keys = [authenticator.api_key.header for authenticator in used if authenticator.api_key]
    if len({token.issuer for token in tokens}) < len(tokens):
        yield key, "has two authenticators of one issuer", "expected one for each issuer"
    if len({token.header for token in tokens}) > 1:
        yield key, "looks for tokens in several headers", "expected one header for all"
    if len({*keys, *(token.header for token in tokens[:1])}) < len(keys) + len(tokens[:1]):
        yield (
            key,
            "looks for two kinds of credentials in one header",
            "expected one header for each",
        )


def _path(path: str, key: Key) -> Iterator[Found]:
    pattern = PathPattern.parse(path)
    names = [segment for segment in pattern.segments if "{" in segment or "}" in segment]
    for segment in names:
        if not _PARAMETER.match(segment):
            yield key, f"has the segment {segment}", "expected {name} as a whole segment"
    if len(set(names)) < len(names):
        yield key, "has a parameter twice", "expected another name"
    for place, segment in enumerate(pattern.segments):
        last = place == len(pattern.segments) - 1 and not pattern.open_ended
        if segment in {".", ".."} or (segment == "" and not last):
            yield key, f"has the segment {segment!r}", "expected a normalised path"
        elif segment not in names and (not _LITERAL.match(segment) or "*" in segment):
            yield key, f"has the segment {segment!r}", "expected plain characters, or /* at the end"


def _upgrade(route: Route, key: Key) -> Iterator[Found]:
    """A body mode on a route that switches protocols would hang it."""
    if not route.upgrade:
        return
    bodies = [
        name
        for name, present in (
            ("cache", route.cache is not None),
            ("request.body", route.request is not None and route.request.body is not None),
            ("response.body", route.response is not None and route.response.body is not None),
        )
        if present
    ]
    for name in bodies:
        yield (*key, "upgrade"), f"can't be combined with {name}", "expected one of the two"


def _own_plugins(gateway: Gateway, folder: Path, files: list[Path]) -> Iterator[Found]:
    for place, route in enumerate(gateway.routes):
        for number, plugin in enumerate(route.plugins):
            source = plugin.use.rpartition(":")[0]
            if not source.endswith(".py"):
                continue
            try:
                files.append(written_path(folder, source))
            except ValueError as error:
                yield ("routes", place, "plugins", number, "use"), str(error), ""


def _collisions(gateway: Gateway) -> Iterator[Found]:
    """Find routes of which neither is more specific."""
    alike: dict[object, list[Route]] = {}
    for place, route in enumerate(gateway.routes):
        others = alike.setdefault(_rank(route.match), [])
        for other in others:
            if _overlap(route.match, other.match):
                problem = f"matches what {other.name} matches"
                yield ("routes", place, "match"), problem, "expected a difference"
        others.append(route)


def _rank(match: Match) -> object:
    """Return what makes a match more specific than another."""
    return _path_shape(match.path), match.host, len(match.headers) + len(match.query)


def _overlap(one: Match, two: Match) -> bool:
    return _methods_overlap(one, two) and not _exclude_each_other(one, two)


def _path_shape(path: str) -> tuple[str, ...]:
    pattern = PathPattern.parse(path)
    segments = ("{}" if s.startswith("{") else s for s in pattern.segments)
    return (*segments, "/*") if pattern.open_ended else tuple(segments)


def _exclude_each_other(one: Match, two: Match) -> bool:
    """Say whether some header or parameter must have two values at once."""
    return any(
        a[name] != b[name] and isinstance(a[name], str) and isinstance(b[name], str)
        for a, b in ((one.headers, two.headers), (one.query, two.query))
        for name in a.keys() & b.keys()
    )


def _methods_overlap(one: Match, two: Match) -> bool:
    if "any" in (one.methods, two.methods):
        return True
    return bool(_methods(one) & _methods(two))


def _methods(match: Match) -> set[str]:
    usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    methods = set(usual if match.methods is None else match.methods)
    return methods | {"HEAD"} if "GET" in methods else methods
