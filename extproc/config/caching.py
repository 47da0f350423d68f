"""A route's `cache:` → what is in the key, and the rules of the plugin.

Which of who is calling makes a difference is not declared but read: off the expressions that were
compiled for everything behind the cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from extproc.aggregation.plugin import Aggregate
from extproc.authentication.assertion import Assertion
from extproc.caching import keys
from extproc.caching.behind import Behind
from extproc.caching.by_body import LookByBody
from extproc.caching.changes import SAFE
from extproc.caching.cookies import OnlyCookies
from extproc.caching.further import Further
from extproc.caching.invalidation import Invalidate
from extproc.caching.keys import KeyOf, Part
from extproc.caching.named import Named
from extproc.caching.plugin import Cache
from extproc.caching.policy import Policy
from extproc.config.schema.aggregates import AggregateCall
from extproc.core.further import UNSEEN
from extproc.core.routes import PathPattern
from extproc.expressions.conditions import Condition, Expression
from extproc.expressions.templates import Template
from extproc.transformation.plugins import Identity, ResponseBody, ResponseHeaders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.aggregation.calls import Call
    from extproc.config.load import Loaded
    from extproc.config.schema import Cache as CacheModel
    from extproc.config.schema import Gateway, Match, Route
    from extproc.config.schema.aggregates import Asking
    from extproc.core.plugin import Plugin

CARRIED_LANGUAGE = "accept-language"  # goes along with each call of an aggregate
_FIXED = re.compile(r"[^{?*]*")  # of a path: what stands before the first hole
_QUERIES = ("request.query", "request.queries")
_HEADERS = "request.headers."
_WHOLE_QUERY = "request.query"
_SECRET = ("authorization", "cookie")
# Ways of one service to tell who is calling, or where from.
_CREDENTIALS = "credentials."
_ADDRESS = "request.address"
_OF_SOMEBODY = ("principal.", "consumer", _ADDRESS, "view", _CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Reads:
    """What is behind a cache reads of a request.

    Attributes:
        parts: of the key, by the name of what is read.
        somebody: the names among them that tell who is calling.
        parameters: of the query, by the name of what is read; they are in the key anyway, unless
            the route counts only some.
    """

    parts: Mapping[str, Part]
    somebody: tuple[str, ...]
    parameters: Mapping[str, Part]


def reads(plugins: Iterable[Plugin]) -> Reads:
    """Return what the plugins behind a cache read of a request, beside its line.

    The id and the time are left out: a stored answer keeps those of the exchange that made it.
    """
    found: dict[str, Part] = {}
    for plugin in plugins:
        for part in _of_plugin(plugin):
            found.setdefault(part[0], part)
    parameters = {name: found.pop(name) for name in list(found) if name.startswith(_WHOLE_QUERY)}
    somebody = [name for name in found if name.startswith(_OF_SOMEBODY)]
    return Reads(found, tuple(somebody), parameters)


def reads_all_headers(plugins: Iterable[Plugin]) -> bool:
    """Say whether what is behind a cache reads any header; two requests have different ids."""
    return "request.headers" in reads(plugins).parts


def varies(
    plugin: Aggregate | ResponseBody | ResponseHeaders,
    consumers: Iterable[Condition],
    *,
    by_key: bool,
) -> frozenset[str]:
    """Return the client's headers that make a difference to what a plugin answers.

    Caches further on must be told of them (RFC 9110 section 12.5.5); this one has them in its key.

    Args:
        plugin: which.
        consumers: what tells consumers apart, where the view is the consumer's.
        by_key: an API key may say which consumer it is.

    Returns:
        Names in lower case; `UNSEEN` among them where no header tells all.
    """
    found = set(reads([plugin]).parts)
    # An aggregate says for itself that an answer is for a known principal.
    hidden = _ADDRESS if isinstance(plugin, Aggregate) else (_ADDRESS, "principal.")
    unseen = any(name.startswith(hidden) for name in found)
    if "view" in found or "consumer" in found:
        chosen = {name for c in consumers for name, _ in _of_expression(c.expression)}
        unseen |= by_key or any(name.startswith((_ADDRESS, "principal.")) for name in chosen)
        found |= chosen
    if "request.headers" in found:
        return frozenset({"*", UNSEEN} if unseen else {"*"})
    kinds = (_HEADERS, _CREDENTIALS)
    names = {n.removeprefix(kind) for kind in kinds for n in found if n.startswith(kind)}
    return frozenset(names | {UNSEEN} if unseen else names)


def _of_plugin(plugin: Plugin) -> Iterator[Part]:
    if isinstance(plugin, Identity | Assertion) and not plugin.send:
        return
    if isinstance(plugin, Assertion):
        yield from _asserted()
        return
    if isinstance(plugin, ResponseBody) and plugin.views:
        yield _view(plugin.views)
    if isinstance(plugin, Aggregate):
        yield from _of_aggregate(plugin)
        return
    for expression in expressions(plugin):
        yield from _of_expression(expression)


def _of_aggregate(plugin: Aggregate) -> Iterator[Part]:
    plan = plugin.plan
    calls = [one for call in plan.calls.values() for one in _with_fallbacks(call)]
    yield CARRIED_LANGUAGE, keys.header(CARRIED_LANGUAGE)
    selection = plan.selection
    if selection.consumers:
        yield _view(selection.consumers)
    if selection.header:
        yield f"request.headers.{selection.header}", keys.header(selection.header)
    for parameter in filter(None, (selection.query, selection.fields)):
        yield _of_parameter(parameter)
    for name in [name for call in calls for name in call.credentials]:
        yield f"{_CREDENTIALS}{name}", keys.forwarded(name)
    for expression in expressions(plan):
        yield from _of_expression(expression)
    for each in [call.each for call in calls if call.each is not None]:
        yield from _of_parameters(each.parameters)
    if any(call.send_identity for call in calls):
        for expression in expressions(plugin.identity):
            yield from _of_expression(expression)
        if plugin.assertion is not None:
            yield from _asserted()


def _with_fallbacks(call: Call | None) -> Iterator[Call]:
    while call is not None:
        yield call
        call = call.fallback


def _asserted() -> Iterator[Part]:
    return ((name, keys.INPUTS[name]) for name in keys.ASSERTED)


def _view(views: Mapping[str, object]) -> Part:
    return "view", keys.view(frozenset(views))


def expressions(value: Any) -> Iterator[Expression]:
    """Yield every expression that something is made of."""
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, Condition):
        yield value.expression
    elif isinstance(value, Template):
        yield from (piece for piece in value.pieces if isinstance(piece, Expression))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from expressions(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from expressions(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from expressions(getattr(value, field.name, None))


def _of_expression(expression: Expression) -> Iterator[Part]:
    for name in expression.names:
        if name == "principal.claims":
            claims = expression.reads.keys(name)
            if not claims:  # any, or in a way that can't be read off the source
                yield name, keys.INPUTS[name]
            else:
                for claim in claims:
                    yield f"{name}.{claim}", keys.claim(claim)
        elif name == "request.headers":
            yield from _of_headers(expression)
        elif name in _QUERIES:
            yield from _of_parameters(expression.reads.keys(name) or ("*",))
        elif name in keys.INPUTS:
            yield name, keys.INPUTS[name]


def _of_parameters(names: Iterable[str]) -> Iterator[Part]:
    """Yield what reads parameters of the query; `*` is all of it."""
    for name in names:
        if name == "*":
            yield _WHOLE_QUERY, lambda request: request.query
        else:
            yield _of_parameter(name)


def _of_parameter(name: str) -> Part:
    return f"{_WHOLE_QUERY}.{name}", keys.parameter(name)


def _of_headers(expression: Expression) -> Iterator[Part]:
    names = expression.reads.keys("request.headers")
    if not names:
        yield "request.headers", keys.all_headers
        return
    for name in names:
        yield f"request.headers.{name}", keys.header(name)


def plugins(
    loaded: Loaded,
    route: Route,
    behind: tuple[Plugin, ...],
    tags: Iterable[Template],
    bypass: Iterable[Condition],
) -> Iterator[Plugin]:
    """Yield the plugins of a cached route's `cache:`.

    Args:
        loaded: the gateway file.
        route: the route.
        behind: the plugins between the cache and the upstream.
        tags: by which responses can be purged.
        bypass: conditions under which the cache is passed by.
    """
    model, gateway = route.cache, loaded.gateway
    if model is None:
        return
    if model.shared or model.cookies is not None:
        yield OnlyCookies(names=() if model.shared else tuple(model.cookies or ()))
    yield from _further(route, behind)
    cache = Cache(
        key=key(loaded, route, model, reads(behind)),
        policy=policy(model),
        tags=tuple(tags),
        bypass=tuple(bypass),
        wait=model.wait,
        behind=Behind(
            route.upstream or "",
            behind,
            frozenset(gateway.removed_headers(route)),
            model.max_bytes,
        ),
        keyed=keyed(gateway, route),
        upstream=called(gateway, route),
        forwards="authorization" not in gateway.credential_headers(route),
        methods=frozenset(model.methods),
    )
    yield cache
    if model.methods:
        yield LookByBody(cache=cache)


def _further(route: Route, behind: Iterable[Plugin]) -> Iterator[Plugin]:
    """Yield what tells caches further on what the plugins behind the cache would have told."""
    varies: frozenset[str] = frozenset()
    always: frozenset[str] = frozenset()
    shapes = False
    for plugin in behind:
        if isinstance(plugin, ResponseHeaders):
            always |= plugin.varies
        elif isinstance(plugin, Aggregate) or (isinstance(plugin, ResponseBody) and plugin.views):
            shapes = True
            varies |= plugin.varies
        else:
            continue
        # What varies by any header is stored for nobody.
        plugin.varies &= {"*"}
    if always or (shapes and (varies or route.plugins)):
        yield Further(varies=varies | always, always=always)


def invalidating(gateway: Gateway, route: Route) -> Iterator[Plugin]:
    """Yield what makes responses of other routes void, where this one may change them."""
    kinds, upstream = keyed(gateway, route), called(gateway, route)
    unsafe = route.match.methods in ("any", None) or not SAFE.issuperset(route.match.methods or ())
    if (kinds or upstream) and unsafe and not route.upgrade:
        yield Invalidate(keyed=kinds, upstream=upstream)


def keyed(gateway: Gateway, route: Route) -> tuple[frozenset[str] | None, ...]:
    """Return which parameters count in the names of the stored responses that overlap a route.

    Of an aggregate without a cache the parts are stored, and its URI names them all the same.
    """
    queries = [
        None if other.cache is None else other.cache.key.query
        for other in gateway.routes
        if (other.cache is not None or any(_stored_calls(other)))
        and overlap(other.match, route.match)
    ]
    kinds = {None if query is None else frozenset(query): None for query in queries}
    return tuple(kinds)


def called(gateway: Gateway, route: Route) -> str:
    """Return a route's upstream, if what it changes there may be a stored part of an aggregate.

    What is fixed of both paths decides. A plugin of yours may rewrite the path to any other.
    """
    path = route.match.path if route.rewrite is None else route.rewrite.path
    mine = "" if route.plugins else _FIXED.match(path)[0]  # type: ignore[index]  # always matches
    for other in gateway.routes:
        for call in _stored_calls(other):
            theirs = _FIXED.match(_path_of(call))[0]  # type: ignore[index]  # the same
            meet = mine.startswith(theirs) or theirs.startswith(mine)
            if call.upstream == route.upstream and meet:
                return call.upstream
    return ""


def _stored_calls(route: Route) -> Iterator[Asking]:
    """Yield the calls of an aggregate whose answers may be stored."""
    if route.aggregate is None:
        return
    for call in route.aggregate.calls.values():
        for asked in (call, call.fallback):
            if asked is not None and asked.method in {None, "GET"} and not asked.path_of_its_own:
                yield asked


def _path_of(call: Asking) -> str:
    batch = call.batch if isinstance(call, AggregateCall) else None
    return call.path or (batch and batch.path) or "/"


def named(route: Route, tags: Iterable[Template]) -> Named:
    """Return what gives the names of an aggregate's answers before they are made."""
    query = None if route.cache is None else route.cache.key.query
    return Named(None if query is None else frozenset(query), tuple(tags))


def policy(model: CacheModel) -> Policy:
    """Return a route's own rules."""
    return Policy(
        model.ttl,
        model.min_ttl,
        model.max_ttl,
        model.force_ttl,
        {int(status): seconds for status, seconds in model.statuses.items()},
        model.stale_while_revalidate,
        model.stale_if_error,
        model.max_bytes,
        model.shared,
    )


def key(loaded: Loaded, route: Route, model: CacheModel, found: Reads) -> KeyOf:
    """Return what makes a key of a request to a route."""
    parts = list(found.parts.values())
    parameters = None if model.key.query is None else frozenset(model.key.query)
    if not found.somebody and not model.shared and _authenticated(loaded.gateway, route):
        # Nothing tells the upstream who is calling, but nobody said that it needn't (RFC 9111
        # section 3.5): each principal has responses of its own until the route says `shared`.
        parts += [*_asserted(), ("consumer", keys.INPUTS["consumer"])]
    if parameters is not None:
        counted = {f"{_WHOLE_QUERY}.{name}" for name in parameters}
        parts += [part for name, part in found.parameters.items() if name not in counted]
    if route.plugins:
        parts.append(("plugins", keys.written_by_plugins))
    headers = tuple(name.lower() for name in model.key.headers)
    return KeyOf(
        _fingerprint(loaded, route), tuple(parts), parameters, headers, _secrets(loaded, route)
    )


def _authenticated(gateway: Gateway, route: Route) -> bool:
    return bool(gateway.accepted(route).names)


def says_consumer(gateway: Gateway, route: Route) -> bool:
    """Say whether a credential of a route may say which consumer somebody is, as API keys do."""
    models = gateway.authentication
    names = [name for name in gateway.accepted(route).names if name in models]
    return any(models[name].api_key is not None for name in names)


def _secrets(loaded: Loaded, route: Route) -> tuple[str, ...]:
    """Return the headers with credentials that the upstream of a route gets."""
    if route.upstream is None or (route.cache is not None and route.cache.shared):
        return ()
    taken_off = loaded.gateway.credential_headers(route)
    configured = {n for model in loaded.gateway.authentication.values() for n in model.headers}
    return tuple(sorted({*_SECRET, *configured} - set(taken_off)))


def _fingerprint(loaded: Loaded, route: Route) -> str:
    """Return what stands for all of the gateway file that shapes a route's answers.

    A reload that changes none of it keeps what is stored.
    """
    gateway = loaded.gateway
    called = route.aggregate.calls.values() if route.aggregate is not None else ()
    asked = [*called, *(call.fallback for call in called if call.fallback is not None)]
    names = sorted({route.upstream or "", *(call.upstream for call in asked)} - {""})
    shaping: list[Any] = [
        route.model_dump(mode="json"),
        [gateway.upstreams[name].model_dump(mode="json") for name in names],
        gateway.identity.model_dump(mode="json") if gateway.identity is not None else None,
        {name: consumer.model_dump(mode="json") for name, consumer in gateway.consumers.items()},
        loaded.version if route.plugins else "",
    ]
    return f"{route.name}@{keys.digest(keys.written(shaping))[:16]}"


def uncounted(route: Route, behind: Iterable[Plugin]) -> str:
    """Say why it can't be told what counts of a query, though a route says it; empty if it can."""
    narrowed = route.cache is not None and route.cache.key.query is not None
    if not narrowed or _WHOLE_QUERY not in reads(behind).parameters:
        return ""
    return "leaves parameters out, and what is behind the cache reads request.query as a whole"


def troubles(gateway: Gateway, route: Route, behind: Iterable[Plugin]) -> Iterator[str]:
    """Say why a route's responses can't be shared by all, though it says `shared: true`."""
    if route.cache is None or not route.cache.shared:
        return
    for name in reads(behind).somebody:
        yield f"is true, and what is behind the cache reads {name}"
    upstream = gateway.upstreams.get(route.upstream or "")
    if upstream is not None and upstream.forward_credentials:
        yield "is true, and the upstream gets the client's credentials"
    if route.cache.cookies:
        yield "is true, and the upstream gets cookies"


def overlap(one: Match, two: Match) -> bool:
    """Say whether some URI is both routes'."""
    return _hosts_meet(one.host, two.host) and _paths_meet(one.path, two.path)


def _hosts_meet(one: str | None, two: str | None) -> bool:
    if one is None or two is None or one == two:
        return True
    wide, narrow = sorted((one, two), key=len)
    return any(
        a.startswith("*.") and b.endswith(a[1:]) for a, b in ((wide, narrow), (narrow, wide))
    )


def _paths_meet(one: str, two: str) -> bool:
    a, b = PathPattern.parse(one), PathPattern.parse(two)
    longer, shorter = (a, b) if len(a.segments) >= len(b.segments) else (b, a)
    if len(longer.segments) > len(shorter.segments) and not shorter.open_ended:
        return False
    if len(longer.segments) == len(shorter.segments) and a.open_ended != b.open_ended:
        return False
    return all(
        s.startswith("{") or t.startswith("{") or s == t
        for s, t in zip(a.segments, b.segments, strict=False)
    )
