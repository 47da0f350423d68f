"""`aggregate:` of a route → its plan, everything compiled once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.aggregation.bodies import Body, body
from extproc.aggregation.budget import Bounds, Gate
from extproc.aggregation.calls import SAFE, Batch, Call
from extproc.aggregation.joins import KEY, KEYS
from extproc.aggregation.kinds import GraphQl, Json, Kind, Xml
from extproc.aggregation.plan import Plan, PlanFault, plan
from extproc.aggregation.procedures import Descriptors, Procedure, UnknownMethod
from extproc.aggregation.requests import DEPTH
from extproc.aggregation.views import Selection
from extproc.config.compiling import Compiler
from extproc.config.schema import AggregateCall
from extproc.core.headers import OF_CONNECTION
from extproc.core.verdict import UPSTREAM_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from extproc.config.errors import Trouble
    from extproc.config.load import Loaded
    from extproc.config.schema import Route
    from extproc.config.schema.aggregates import Aggregate, Asking
    from extproc.config.source import Key
    from extproc.expressions.conditions import NotAnExpression
    from extproc.expressions.templates import Template

_GRAPHQL_PATH = "/graphql"
# As gRPC's own libraries have it: of a byte or two of a message some hundred are made at once.
_LARGEST_MESSAGE = 4 << 20
# Texts and comments (GraphQL specification, October 2021, sections 2.1.4 and 2.9.4).
_NOT_GRAPHQL = re.compile(r'"""(?:\\"""|(?!\\""").)*?"""|"(?:\\.|[^"\\\n])*"|#[^\n\r]*', re.DOTALL)
_MUTATION = re.compile(r"\bmutation\b")


class Aggregates(Compiler):
    """Makes the plans of one file.

    Attributes:
        gates: bounds of upstreams that have one, shared by every route.
        warnings: what isn't wrong, but hardly meant.
    """

    def __init__(self, loaded: Loaded, troubles: list[Trouble]) -> None:
        super().__init__(loaded, troubles)
        self._descriptors: dict[str, Descriptors | None] = {}
        self.warnings: list[Trouble] = []
        self.gates: Mapping[str, Gate] = {
            name: Gate(upstream.concurrency)
            for name, upstream in self._gateway.upstreams.items()
            if upstream.concurrency is not None
        }

    def plan(self, route: Route, key: Key) -> Plan | None:
        """Return a route's plan; None where a trouble was noted."""
        model = route.aggregate
        assert model is not None  # noqa: S101 - the caller looked
        parts = tuple(model.calls)
        calls = [self._call(route, part, parts, (*key, "calls", part)) for part in parts]
        response = self._projection(model.response, (*key, "response"))
        views = {
            name: self._projection(source, (*key, "views", name))
            for name, source in model.views.items()
        }
        if model.main is not None and model.main not in model.calls:
            self._trouble((*key, "main"), f"names {model.main}, which is no part")
        bounds = Bounds(model.max_calls, model.max_bytes, model.at_once, model.depth)
        try:
            made = plan(
                calls,
                response,
                views,
                model.deadline,
                main=model.main,
                bounds=bounds,
                selection=self._selection(route, (*key, "views")),
            )
        except PlanFault as error:
            where = (*key, *error.place)
            self._trouble(where, str(error), error.expected)
            return None
        self.warnings += [
            self._loaded.trouble((*key, *place), problem) for place, problem in made.warnings
        ]
        return made

    def _selection(self, route: Route, key: Key) -> Selection:
        model = route.aggregate
        assert model is not None  # noqa: S101 - as above
        consumers = self._gateway.consumers
        by_name = model.view.header is None and model.view.query is None
        for name in model.views if by_name else ():
            if all(consumer.view != name for consumer in consumers.values()):
                self._trouble(
                    (*key, name), "is the view of no consumer", "expected one with it, or `view`"
                )
        named = {name: c.view for name, c in consumers.items() if c.view in model.views and c.view}
        return Selection(named, model.view.header or "", model.view.query or "", model.fields or "")

    # ---- calls

    def _call(self, route: Route, part: str, parts: tuple[str, ...], key: Key) -> Call:
        assert route.aggregate is not None  # noqa: S101 - as above
        model = route.aggregate.calls[part]
        asked = () if model.each is None else (KEY,) if model.batch is None else (KEYS,)
        names = (*parts, *asked)
        batch = self._batch(model, key)
        each = None if model.each is None else self._projection(model.each, (*key, "each"))
        when = None
        if model.when is not None:
            when = self._condition(model.when, (*key, "when"), parts=parts, body=True)
        fallback = None
        if model.fallback is not None:
            where = (*key, "fallback")
            fallback = Call(part, **self._asking(route, model.fallback, names, where))
        asking = self._asking(route, model, names, key)
        if asked and not _reads(asking, *asked):
            self._trouble(
                (*key, "each"),
                "gives keys that the call doesn't name, so each would be asked the same",
                f"expected {{{asked[0]}}} in its path, headers or body",
            )
        self.warnings += [
            self._loaded.trouble((*key, name), problem)
            for name, problem in _hardly_meant(route.aggregate, model, part)
        ]
        return Call(
            part,
            **asking,
            each=each,
            batch=batch,
            when=when,
            required=model.required,
            default=model.default,
            fallback=fallback,
            statuses=model.statuses,
        )

    def _said(self, error: NotAnExpression) -> tuple[str, str]:
        if error.unknown not in {KEY, KEYS}:
            return super()._said(error)
        batch = "without `batch`" if error.unknown == KEY else "with `batch`"
        return (
            f"reads {error.unknown}, which belongs to `each`",
            f"expected it in the path, headers or body of a call with `each`, {batch}",
        )

    def _batch(self, model: AggregateCall, key: Key) -> Batch | None:
        batch = model.batch
        if batch is None:
            return None
        where = (*key, "batch")
        return Batch(
            batch.size,
            batch.by,
            None if batch.key is None else self._projection(batch.key, (*where, "key")),
            None if batch.items is None else self._projection(batch.items, (*where, "items")),
        )

    def _asking(
        self, route: Route, model: Asking, names: tuple[str, ...], key: Key
    ) -> dict[str, Any]:
        upstream = self._gateway.upstreams[model.upstream]
        kind, method = self._kind(model, key)
        tells = route.identity is None and upstream.identity is None
        for name in model.headers:
            if why := self._never_set(name.lower(), tells=tells):
                self._trouble((*key, "headers", name), f"is {why}", "expected another header")
        return {
            "upstream": model.upstream,
            "path": self._path(model, kind, names, key),
            "method": method,
            "only_reads": _only_reads(model, kind),
            "headers": self._templates(model.headers, (*key, "headers"), parts=names, body=True),
            "body": self._body(model, kind, names, key),
            "kind": kind,
            "timeout": model.timeout if model.timeout is not None else upstream.timeout,
            "stale": model.stale or 0.0,
            "max_bytes": model.max_bytes or (_LARGEST_MESSAGE if model.grpc is not None else None),
            "send_identity": tells,
            "credentials": self._credentials(model.upstream),
        }

    def _never_set(self, name: str, *, tells: bool) -> str:
        """Return why no call may set a header; empty where it may.

        Args:
            name: in lower case.
            tells: the gateway itself tells the upstream who is calling.
        """
        if name in OF_CONNECTION or name in {UPSTREAM_HEADER, DEPTH}:
            return "the gateway's own to say"
        if name.startswith("x-envoy-"):
            return "an instruction to Envoy"
        if name == "forwarded" or name.startswith("x-forwarded-"):
            return "what tells Envoy that a call comes from elsewhere, and how long it may take"
        if tells and name in self._gateway.identity_headers:
            return "one that tells who is calling"
        return ""

    def _credentials(self, name: str) -> tuple[str, ...]:
        if not self._gateway.upstreams[name].forward_credentials:
            return ()
        models = self._gateway.authentication.values()
        return tuple(sorted({header for model in models for header in model.headers}))

    def _path(self, model: Asking, kind: Kind, names: tuple[str, ...], key: Key) -> Template:
        if isinstance(kind, Procedure):
            return self._template(kind.path, key)
        if model.path is not None:
            return self._target(model.path, (*key, "path"), names)
        if isinstance(model, AggregateCall) and model.batch is not None and model.batch.path:
            where = (*key, "batch", "path")
            return self._target(model.batch.path, where, names)
        return self._template(_GRAPHQL_PATH, key)

    def _target(self, source: str, key: Key, names: tuple[str, ...]) -> Template:
        made = self._template(source, key, parts=names, body=True)
        if wrong := made.never_a_target():
            self._trouble(key, wrong, "expected a path and query that can be sent")
        return made

    def _body(self, model: Asking, kind: Kind, names: tuple[str, ...], key: Key) -> Body | None:
        where: tuple[str, ...] = ("body",)
        source = model.body
        if model.grpc is not None:
            where, source = ("grpc", "request"), model.grpc.request
        elif model.graphql is not None:
            where, source = ("graphql", "variables"), model.graphql.variables
        elif source is None:
            return None

        def compiled(text: str, place: tuple[str | int, ...]) -> Template:
            return self._template(text, (*key, *where, *place), parts=names, body=True)

        made = body(source, compiled)
        if isinstance(kind, Procedure):
            for place, wrong, expected in kind.misfits(made.tree):
                self._trouble((*key, *where, *place), wrong, expected)
        if model.graphql is not None:
            return Body({"query": model.graphql.query, "variables": made.tree})
        return made

    def _kind(self, model: Asking, key: Key) -> tuple[Kind, str]:
        if model.graphql is not None:
            return GraphQl(), "POST"
        if model.grpc is not None:
            return self._procedure(model, key) or Json(), "POST"
        method = model.method or "GET"
        read = Xml if model.format == "xml" else Json
        return read(tells_nothing=method not in SAFE), method

    def _procedure(self, model: Asking, key: Key) -> Procedure | None:
        assert model.grpc is not None  # noqa: S101 - as above
        if not self._gateway.upstreams[model.upstream].speaks_grpc:
            self._trouble(
                (*key, "grpc"), f"calls {model.upstream}, which isn't gRPC", "expected grpc://"
            )
            return None
        descriptors = self._of_upstream(model.upstream, (*key, "grpc"))
        if descriptors is None:
            return None
        try:
            return descriptors.method(model.grpc.method)
        except UnknownMethod as error:
            self._trouble((*key, "grpc", "method"), f"names what {model.upstream} {error}")
            return None

    def _of_upstream(self, name: str, key: Key) -> Descriptors | None:
        if name not in self._descriptors:
            file = self._gateway.upstreams[name].descriptors
            self._descriptors[name] = None
            if file is None:
                self._trouble(key, f"calls {name} without descriptors", "expected `descriptors`")
                return None
            try:
                self._descriptors[name] = Descriptors(Path(file).read_bytes())
            except UnknownMethod as error:
                self._trouble(("upstreams", name, "descriptors"), str(error))
        return self._descriptors[name]


def _only_reads(model: Asking, kind: Kind) -> bool:
    """Say whether a call that is sent as POST is known to change nothing."""
    if model.graphql is not None:
        return not _MUTATION.search(_NOT_GRAPHQL.sub(" ", model.graphql.query))
    return isinstance(kind, Procedure) and kind.only_reads


def _hardly_meant(whole: Aggregate, model: AggregateCall, part: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of a call that mean nothing where they stand, and why."""
    named = model.model_fields_set
    if model.required and "default" in named:
        yield "default", "is never used, as the call is required"
    if not model.required and model.statuses:
        yield "statuses", "is never used, as the call isn't required"
    posted = model.grpc is not None or model.graphql is not None
    if model.stale is not None and (posted or (model.method or "GET") not in SAFE):
        yield "stale", "is never used, as only answers to GET are stored"
    if model.timeout is not None and model.timeout > whole.deadline:
        yield "timeout", "is longer than the deadline"
    if model.max_bytes is not None and model.max_bytes > whole.max_bytes:
        yield "max_bytes", "is more than all parts may have together"
    if whole.main == part and not model.required:
        yield "required", "is false, though the part is the main one"


def _reads(asking: Mapping[str, Any], name: str) -> bool:
    return name in Call("", **asking).names()


def reads_body(plan: Plan) -> bool:
    """Say whether a call reads the request's body."""
    return any("request.body" in call.names() for call in plan.calls.values())
