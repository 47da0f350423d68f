"""What no single part of the file can know: names that must exist, paths, matches that collide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from extproc.config import tls_files
from extproc.config.source import Key, written_path
from extproc.core.near import near
from extproc.core.routes import PathPattern, spelt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from extproc.config.schema import Accepted, Authenticator, Gateway, Match, Route

Found = tuple[Key, str, str]

ANONYMOUS, NOBODY = "anonymous", "none"
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
        *tls_files.unusable(gateway),
    ]
    return files, troubles or list(_collisions(gateway))


def _identity(gateway: Gateway) -> Iterator[Found]:
    if gateway.identity is None:
        return
    named: list[tuple[Key, str]] = [
        (("identity", "headers", name), name.lower()) for name in gateway.identity.headers
    ]
    if gateway.identity.assertion is not None:
        named.append((("identity", "assertion", "header"), gateway.identity.assertion.header))
    # What clients send under these names is taken off before anything looks for a credential.
    credentials = {
        spelt(place): name
        for name, model in gateway.authentication.items()
        for place in model.headers
    }
    for key, header in named:
        if header in _RESERVED_IDENTITY or header.startswith("x-envoy-"):
            yield key, "can't carry identity", "expected another header"
        elif spelt(header) in credentials:
            problem = f"is where {credentials[spelt(header)]} looks for a credential"
            yield key, problem, "expected another header"


def _reserved(gateway: Gateway) -> Iterator[Found]:
    for name in (ANONYMOUS, NOBODY):
        if name in gateway.authentication:
            yield ("authentication", name), f"can't be called {name}", "expected another name"


def _defaults(gateway: Gateway) -> Iterator[Found]:
    accepted = gateway.defaults.authentication
    if accepted is not None:
        yield from _authenticators(gateway, accepted, ("defaults", "authentication"))


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
            if call.fallback is not None:
                where = (*where[:-1], "fallback", "upstream")
                yield from _known(call.fallback.upstream, gateway.upstreams, "an upstream", where)
    for number, policy in enumerate(route.authorization):
        where = (*key, "authorization", number)
        yield from _known(policy, gateway.policies, "a policy", where)
    if route.authentication is None and gateway.defaults.authentication is None:
        yield (*key, "authentication"), "is missing", "say `none` out loud, or set defaults"
    if route.authentication is not None:
        yield from _authenticators(gateway, route.authentication, (*key, "authentication"))
    yield from _told_otherwise(gateway, route, key)
    yield from _upgrade(route, key)
    yield from _body(route, key)


def _known(name: str, names: Iterable[str], what: str, key: Key) -> Iterator[Found]:
    known = list(names)
    if name not in known:
        yield key, f"names {name}, which isn't {what}", near(name, sorted(known))


def _authenticators(gateway: Gateway, accepted: Accepted, key: Key) -> Iterator[Found]:
    names = accepted.names
    where = (*key, "all") if accepted.every else key
    for number, name in enumerate(names):
        if name == NOBODY:
            wanted = "expected `none` alone, or `anonymous` where a credential is optional"
            yield (*where, number), "is none in a list", wanted
        elif name != ANONYMOUS:
            yield from _known(name, gateway.authentication, "an authenticator", (*where, number))
    if names == [ANONYMOUS]:
        yield key, "is anonymous alone", "expected `none`"
    if accepted.every and (ANONYMOUS in names or len(set(names)) < len(names)):
        yield key, "demands nobody, or one twice", "expected different authenticators"
    used = {name: gateway.authentication[name] for name in names if name in gateway.authentication}
    yield from _places(used, accepted, key)
    if any(model.reads_certificates for model in used.values()) and _never_asks(gateway):
        yield (
            key,
            "wants client certificates, and the listener asks for none",
            "expected listener.tls.client_ca",
        )


def _never_asks(gateway: Gateway) -> bool:
    """Say whether TLS ends here without client certificates; without TLS it ends elsewhere."""
    tls = gateway.listener.tls
    return tls is not None and tls.client_ca is None


def _places(used: Mapping[str, Authenticator], accepted: Accepted, key: Key) -> Iterator[Found]:
    """Find credentials that can't be told apart."""
    issuers = [
        (token_place(model), model.jwt.issuer) for model in used.values() if model.jwt is not None
    ]
    if len(set(issuers)) < len(issuers):
        yield key, "has two authenticators of one issuer", "expected one for each issuer"
    if sum(model.introspection is not None for model in used.values()) > 1:
        yield key, "has two authenticators by introspection", "expected one"
    if sum(model.basic is not None for model in used.values()) > 1:
        yield key, "has two files of users", "expected one"
    tokens = [token_place(model) for model in used.values()]
    keys = [model.api_key.header for model in used.values() if model.api_key is not None]
    shared = {("header", name) for name in keys} & set(tokens)
    if shared or len(set(keys)) < len(keys) or (keys and _basic_beside(used, keys)):
        yield (
            key,
            "looks for two kinds of credentials in one header",
            "expected one header for each",
        )
    if accepted.every:
        yield from _demanded_of_one(used, tokens, key)


def _demanded_of_one(
    used: Mapping[str, Authenticator], tokens: Sequence[tuple[str, str] | None], key: Key
) -> Iterator[Found]:
    """Find places of which several credentials are demanded, and one would do."""
    headers = [name for model in used.values() for name in model.headers]
    if len(set(headers)) < len(headers):
        yield key, "demands two credentials of one header", "expected a header for each"
    elsewhere = [place for place in tokens if place is not None and place[0] != "header"]
    for kind, name in sorted({place for place in elsewhere if elsewhere.count(place) > 1}):
        what = {"cookie": "cookie", "query": "parameter"}[kind]
        yield key, f"demands two credentials of the {what} {name}", f"expected a {what} for each"


def _basic_beside(used: Mapping[str, Authenticator], keys: list[str]) -> bool:
    return "authorization" in keys and any(model.basic is not None for model in used.values())


def token_place(model: Authenticator) -> tuple[str, str] | None:
    """Return where an authenticator looks for bearer tokens."""
    if model.introspection is not None:
        return ("header", model.introspection.header)
    if model.jwt is None:
        return None
    for kind in ("cookie", "query"):
        name = getattr(model.jwt, kind)
        if name is not None:
            return (kind, name)
    return ("header", model.jwt.header)


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


def _told_otherwise(gateway: Gateway, route: Route, key: Key) -> Iterator[Found]:
    """Find headers that a route sets and identity sets after it, or takes off."""
    changes = route.request.headers.set if route.request is not None else {}
    for name in changes:
        if name in gateway.identity_headers:
            where = (*key, "request", "headers", "set", name)
            yield where, "is one that tells who is calling", "expected another header"


def _upgrade(route: Route, key: Key) -> Iterator[Found]:
    """A body mode on a route that switches protocols would hang it."""
    if not route.upgrade:
        return
    bodies = [
        name
        for name, present in (
            ("cache", route.cache is not None),
            ("body", route.body is not None),
            ("request.body", route.request is not None and route.request.body is not None),
            ("response.body", route.response is not None and route.response.body is not None),
        )
        if present
    ]
    for name in bodies:
        yield (*key, "upgrade"), f"can't be combined with {name}", "expected one of the two"


def _body(route: Route, key: Key) -> Iterator[Found]:
    """What answers before a body has come can't wait for its judgement."""
    if route.body is not None and route.cache is not None:
        yield (*key, "body"), "can't be combined with cache", "expected one of the two"


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
