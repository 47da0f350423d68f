"""A loaded gateway file → the plugins of each route, everything compiled once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from extproc.aggregation.plugin import Aggregate, AggregateBody, Private
from extproc.aggregation.tree import tree
from extproc.authentication.assertion import Assertion, NotASigningKey, Signer
from extproc.authentication.jwt import JwtAuthenticator
from extproc.authentication.lasting import EndsWithCredential
from extproc.authorization.plugin import Authorize, AuthorizeBody, Consumers
from extproc.authorization.policies import Policy, Rule
from extproc.caching.plugin import Cache
from extproc.config import caching, own_plugins, whole_bodies
from extproc.config.aggregates import Aggregates, reads_body
from extproc.config.compiling import Compiler
from extproc.config.credentials import Credentials
from extproc.config.errors import ConfigError, Trouble
from extproc.config.load import Loaded
from extproc.core.chain import Chain, Modes, modes_of
from extproc.core.guard import Guard, Limits, OnFailure
from extproc.core.near import near
from extproc.core.plugin import Plugin
from extproc.core.routes import PathPattern, Route, spelt
from extproc.core.verdict import CONTROL_HEADERS
from extproc.expressions.inputs import Inputs
from extproc.transformation.plugins import (
    Identity,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    Rewrite,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from extproc.config.schema import Assertion as AssertionModel
    from extproc.config.schema import Cache as CacheModel
    from extproc.config.schema import Gateway, PolicyRule
    from extproc.config.schema import Route as RouteModel
    from extproc.config.source import Key
    from extproc.core.ports import Log, Observer, Runtime
    from extproc.core.values import Request
    from extproc.expressions.projections import Projection
    from extproc.expressions.templates import Template

_AUTHENTICATION_DEADLINE = 6.0  # the first token of an issuer may wait for its keys
_MOST_WAITING = 10_000  # of one route's requests for others' responses, in one worker
_MARGIN = 0.25  # between a plugin's own deadline and its guard's


@dataclass(frozen=True, slots=True)
class Step:
    """One plugin of a route, before it is guarded."""

    name: str
    plugin: Plugin
    limits: Limits


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that one version of a gateway file runs.

    Attributes:
        loaded: the file.
        steps: the plugins of each route in their order, by its name.
        authenticators: by name; for readiness and status.
        listed: the subjects that files of keys and users list, by authenticator.
        published: the keys of identity assertions as a JSON Web Key Set; empty for none.
        signer: of identity assertions; None for none.
        warnings: what isn't wrong, but hardly meant.
    """

    loaded: Loaded
    steps: Mapping[str, tuple[Step, ...]]
    authenticators: Mapping[str, JwtAuthenticator]
    listed: Mapping[str, Container[str]]
    published: str = ""
    signer: Signer | None = None
    warnings: tuple[Trouble, ...] = ()

    @property
    def modes(self) -> dict[str, Modes]:
        """Return what each route needs to see."""
        return {name: modes_of(step.plugin for step in steps) for name, steps in self.steps.items()}

    @property
    def longest(self) -> float:
        """Return the longest that any route may take for one message, seconds."""
        return max(map(_deadline, self.steps.values()), default=0.0)

    def plans(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the plan of each aggregation as lines, by its route's name."""
        for name, steps in self.steps.items():
            for step in steps:
                if isinstance(step.plugin, Aggregate):
                    yield name, list(tree(step.plugin.plan))

    @property
    def keyed(self) -> set[frozenset[str] | None]:
        """Return, for each kind of key of stored responses, the parameters that count."""
        return {p.key.parameters for p in self.plugins() if isinstance(p, Cache)}

    def plugins(self) -> Iterator[Plugin]:
        """Yield every plugin."""
        for steps in self.steps.values():
            for step in steps:
                yield step.plugin

    def routes(
        self, runtime: Runtime, observer: Observer, log: Log, threaded: Container[str]
    ) -> list[Route]:
        """Put every plugin in its guard.

        Args:
            runtime: for waiting and interrupting.
            observer: where measurements go.
            log: where failures go.
            threaded: names of plugins whose hooks run in threads from the start.
        """
        routes = {route.name: route for route in self.loaded.gateway.routes}
        patterns = {name: PathPattern.parse(route.match.path) for name, route in routes.items()}
        return [
            Route(
                name,
                self.loaded.version,
                patterns[name],
                Chain(
                    [
                        Guard(
                            step.plugin,
                            step.name,
                            step.limits,
                            runtime,
                            observer,
                            log,
                            offloaded=step.name in threaded,
                        )
                        for step in steps
                    ]
                ),
                _deadline(steps),
                _hidden(self.loaded.gateway, routes[name]),
                self.loaded.gateway.listener.max_response_bytes,
            )
            for name, steps in self.steps.items()
        ]


def _hidden(gateway: Gateway, route: RouteModel) -> frozenset[str]:
    names = gateway.credential_headers(route)
    return frozenset(map(spelt, (*CONTROL_HEADERS, *gateway.identity_headers, *names)))


def _deadline(steps: tuple[Step, ...]) -> float:
    return sum(step.limits.deadline for step in steps)


def assemble(loaded: Loaded) -> Assembly:
    """Compile every expression and make every plugin.

    Raises:
        ConfigError: with every trouble that was found.
    """
    return _Builder(loaded).assembly()


class _Builder(Compiler):
    """Builds one version; collects troubles."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded, [])
        self._aggregates = Aggregates(loaded, self._troubles)
        self._warnings: list[Trouble] = []

    def assembly(self) -> Assembly:
        """Build everything."""
        self._credentials = Credentials(self._loaded)
        self._troubles += self._credentials.troubles
        self._policies = {name: self._policy(name) for name in self._gateway.policies}
        self._consumers = tuple(
            (name, self._condition(consumer.when, ("consumers", name, "when")))
            for name, consumer in self._gateway.consumers.items()
        )
        identity = self._gateway.identity.headers if self._gateway.identity is not None else {}
        self._identity = self._templates(identity, ("identity", "headers"))
        assertion = self._gateway.identity.assertion if self._gateway.identity is not None else None
        self._assertion = assertion
        self._signer = self._signs(assertion) if assertion is not None else None
        steps = {
            route.name: tuple(self._steps(route, ("routes", place)))
            for place, route in enumerate(self._gateway.routes)
        }
        if self._troubles:
            raise ConfigError(self._troubles)
        self._warnings += self._views_of_nobody()
        published = self._signer.key_set if self._signer is not None else ""
        made = Assembly(
            self._loaded,
            steps,
            self._credentials.authenticators,
            self._credentials.listed,
            published,
            self._signer,
            (*self._credentials.warnings(), *self._aggregates.warnings, *self._warnings),
        )
        return replace(made, warnings=(*made.warnings, *whole_bodies.warnings(made)))

    def _views_of_nobody(self) -> Iterator[Trouble]:
        """Yield a warning for each consumer whose view no route has: it gets what all get."""
        shapes = [shape for r in self._gateway.routes for shape in (r.response, r.aggregate)]
        known = sorted({view for shape in shapes if shape is not None for view in shape.views})
        for name, consumer in self._gateway.consumers.items():
            if consumer.view is not None and consumer.view not in known:
                problem = f"names {consumer.view}, which is a view of no route"
                where = ("consumers", name, "view")
                yield self._loaded.trouble(where, problem, near(consumer.view, known))

    def _steps(self, route: RouteModel, key: Key) -> Iterator[Step]:
        """Yield a route's plugins; the order is fixed, so that no cache stands before a check."""
        yield from self._security(route, key)
        yield from self._own(route, key)
        if route.cache is not None and route.aggregate is not None:
            yield _step(Private())
        tags = self._tags(route, (*key, "cache", "tags"))
        behind = tuple(self._behind(route, key, tags))
        if route.cache is not None:
            yield from self._cache(route, route.cache, (*key, "cache"), behind, tags)
        else:
            for plugin in caching.invalidating(self._gateway, route):
                yield Step("invalidate", plugin, Limits(on_failure=OnFailure.SKIP))
        yield from behind

    def _behind(self, route: RouteModel, key: Key, tags: Sequence[Template]) -> Iterator[Step]:
        """Yield what stands between the cache and the upstream."""
        yield from self._on_the_way_in(route, key)
        yield from self._on_the_way_out(route, key)
        if route.upstream is not None and self._identity:
            yield _step(Identity(headers=self._identity, send=self._sends_identity(route)))
        if route.upstream is not None and self._signer is not None and self._assertion is not None:
            yield _step(
                Assertion(
                    header=self._assertion.header,
                    signer=self._signer,
                    upstream=route.upstream,
                    send=self._sends_identity(route),
                )
            )
        if route.aggregate is not None:
            yield from self._aggregate(route, (*key, "aggregate"), tags)

    def _tags(self, route: RouteModel, key: Key) -> list[Template]:
        tags = route.cache.tags if route.cache is not None else []
        return [self._template(tag, (*key, place), response=True) for place, tag in enumerate(tags)]

    def _cache(
        self,
        route: RouteModel,
        model: CacheModel,
        key: Key,
        behind: Sequence[Step],
        tags: Sequence[Template],
    ) -> Iterator[Step]:
        plugins = tuple(step.plugin for step in behind)
        for problem in caching.troubles(self._gateway, route, plugins):
            self._trouble((*key, "shared"), problem, "expected responses that are the same for all")
        problem = caching.uncounted(route, plugins)
        if problem:
            expected = "expected names that are written out, such as request.query.page"
            self._trouble((*key, "key", "query"), problem, expected)
        if caching.reads_all_headers(plugins):
            problem = "finds nothing again: a header is read whose name is computed, so all count"
            expected = 'expected names that are written out, such as request.headers["x-org"]'
            self._warnings.append(self._loaded.trouble(key, problem, expected))
        bypass = [
            self._condition(text, (*key, "bypass", place))
            for place, text in enumerate(model.bypass)
        ]
        limits = Limits(model.wait + _MARGIN, _MOST_WAITING, OnFailure.SKIP)
        for plugin in caching.plugins(self._loaded, route, plugins, tags, bypass):
            yield Step("cache", plugin, limits)

    def _security(self, route: RouteModel, key: Key) -> Iterator[Step]:
        plugin = self._credentials.plugin(self._gateway.accepted(route))
        if plugin is not None:
            yield _step(plugin, deadline=_AUTHENTICATION_DEADLINE)
        hides = self._credentials.hides()
        if hides is not None and not self._forwards_credentials(route):
            yield _step(hides)
        if plugin is not None and route.upgrade:
            yield _step(EndsWithCredential())
        policies = tuple(self._policies[name] for name in route.authorization or ())
        inputs = self._inputs(policies)
        if self._consumers:
            yield _step(Consumers(consumers=self._consumers, inputs=inputs))
        at_once = tuple(policy for policy in policies if not policy.reads_body)
        asks = plugin.challenges(refused=False) if plugin is not None else ()
        if at_once:
            yield _step(Authorize(policies=at_once, inputs=inputs, challenges=asks))
        with_body = tuple(policy for policy in policies if policy.reads_body)
        if route.body is not None:
            yield _step(AuthorizeBody(policies=with_body, inputs=inputs, challenges=asks))
        for policy in with_body if route.body is None else ():
            where = (*key, "authorization", route.authorization.index(policy.name))
            self._trouble(
                where, f"{policy.name} reads request.body", "expected `body: json` on the route"
            )

    def _forwards_credentials(self, route: RouteModel) -> bool:
        upstream = self._gateway.upstreams.get(route.upstream or "")
        return upstream is not None and upstream.forward_credentials

    def _signs(self, model: AssertionModel) -> Signer | None:
        key: Key = ("identity", "assertion", "key")
        try:
            previous = [Path(file).read_bytes() for file in model.previous]
            return Signer(Path(model.key).read_bytes(), previous, model.issuer, model.ttl)
        except NotASigningKey as error:
            self._trouble(key, str(error), "expected `openssl genpkey -algorithm ed25519`")
            return None

    def _asserts(self) -> Callable[[Request, str, float], tuple[str, str]] | None:
        """Return what makes the header for one call of an aggregate."""
        if self._signer is None or self._assertion is None:
            return None
        signer, header = self._signer, self._assertion.header

        def made(request: Request, upstream: str, now: float) -> tuple[str, str]:
            return header, signer.sign(request, upstream, now)

        return made

    def _own(self, route: RouteModel, key: Key) -> Iterator[Step]:
        for place, own in enumerate(route.plugins):
            where = (*key, "plugins", place)
            try:
                plugin = own_plugins.make(self._loaded, own, where)
                self._warnings += own_plugins.idle(self._loaded, plugin, where)
            except ConfigError as error:
                self._troubles += error.troubles
                continue
            if route.upgrade and modes_of([plugin]) != Modes():
                self._trouble((*where, "use"), "sees bodies or responses", "expected no `upgrade`")
            limits = Limits(own.deadline, on_failure=OnFailure(own.on_failure), threads=True)
            yield Step(type(plugin).__name__, plugin, limits)

    def _on_the_way_in(self, route: RouteModel, key: Key) -> Iterator[Step]:
        if route.request is not None:
            changes = route.request.headers
            if changes.remove or changes.set:
                values = self._templates(changes.set, (*key, "request", "headers", "set"))
                yield _step(RequestHeaders(remove=tuple(changes.remove), set=values))
            if route.request.body is not None:
                shape = self._projection(route.request.body, (*key, "request", "body"))
                yield _step(RequestBody(shape=shape))
        if route.rewrite is not None:
            where = (*key, "rewrite", "path")
            yield _step(Rewrite(path=self._template(route.rewrite.path, where)))

    def _on_the_way_out(self, route: RouteModel, key: Key) -> Iterator[Step]:
        if route.response is None:
            return
        changes = route.response.headers
        if changes.remove or changes.set:
            where = (*key, "response", "headers", "set")
            values = self._templates(changes.set, where, response=True)
            heads = ResponseHeaders(remove=tuple(changes.remove), set=values)
            heads.varies = self._varies(heads, route)
            yield _step(heads)
        if route.response.body is not None:
            shape = self._projection(route.response.body, (*key, "response", "body"))
            views = self._views(route.response.views, (*key, "response", "views"))
            plugin = ResponseBody(shape=shape, views=views)
            plugin.varies = self._varies(plugin, route)
            yield _step(plugin)

    def _aggregate(self, route: RouteModel, key: Key, tags: Sequence[Template]) -> Iterator[Step]:
        plan = self._aggregates.plan(route, key)
        if plan is None:
            return
        # A call that reads the body waits for it, and so does one behind what judges it.
        kind = AggregateBody if route.body is not None or reads_body(plan) else Aggregate
        plugin = kind(
            plan=plan,
            identity=self._identity,
            assertion=self._asserts(),
            cached=route.cache is not None,
            ttl=route.cache.ttl if route.cache is not None else None,
            gates=self._aggregates.gates,
            names=caching.named(route, tags),
        )
        plugin.varies = self._varies(plugin, route)
        yield Step("aggregate", plugin, Limits(plan.deadline + _MARGIN))

    def _varies(
        self, plugin: Aggregate | ResponseBody | ResponseHeaders, route: RouteModel
    ) -> frozenset[str]:
        conditions = [condition for _, condition in self._consumers]
        by_key = caching.says_consumer(self._gateway, route)
        return caching.varies(plugin, conditions, by_key=by_key)

    def _sends_identity(self, route: RouteModel) -> bool:
        upstream = self._gateway.upstreams[route.upstream or ""]
        return route.identity is None and upstream.identity is None

    def _views(self, views: Mapping[str, str], key: Key) -> dict[str, Projection]:
        """Return a shape for each consumer whose view this is."""
        shapes = {name: self._projection(source, (*key, name)) for name, source in views.items()}
        consumers = self._gateway.consumers
        for name in views:
            if all(consumer.view != name for consumer in consumers.values()):
                self._trouble((*key, name), "is the view of no consumer", "expected one with it")
        return {
            consumer: shapes[model.view]
            for consumer, model in consumers.items()
            if model.view in shapes
        }

    def _policy(self, name: str) -> Policy:
        model = self._gateway.policies[name]
        key: Key = ("policies", name)
        candidate = None
        if model.candidate is not None:
            rules = self._rules(model.candidate.rules, (*key, "candidate", "rules"))
            candidate = Policy(name, rules)
        return Policy(name, self._rules(model.rules, (*key, "rules")), candidate)

    def _rules(self, models: Sequence[PolicyRule], key: Key) -> tuple[Rule, ...]:
        rules = []
        for place, rule in enumerate(models):
            denies = rule.deny is not None
            where = (*key, place, "deny" if denies else "allow")
            compiled = self._condition(rule.deny or rule.allow or "", where, body=True)
            rules.append(Rule(rule.name, compiled, denies, rule.reason or "", rule.detail or ""))
        return tuple(rules)

    def _inputs(self, policies: Sequence[Policy]) -> Inputs:
        """Return what collects the values that consumers and these policies read."""
        conditions = [condition for _, condition in self._consumers]
        conditions += [condition for policy in policies for condition in policy.conditions]
        places, parameters = self._credentials.places, self._credentials.parameters
        return Inputs([c.expression for c in conditions], places, parameters)


def _step(plugin: Plugin, *, deadline: float = 0.5) -> Step:
    """Return a built-in plugin as a step; it fails closed."""
    return Step(type(plugin).__name__.lower(), plugin, Limits(deadline))
