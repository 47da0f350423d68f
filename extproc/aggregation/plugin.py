"""The plugin that answers from a plan's calls."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from extproc.aggregation.counts import Counts
from extproc.aggregation.execution import Execution
from extproc.aggregation.failures import CallFailed, problem
from extproc.aggregation.freshness import Freshness
from extproc.aggregation.requests import DEPTH, Telling
from extproc.aggregation.views import kept, wanted_of
from extproc.core import strict_json
from extproc.core.further import UNSEEN, changed
from extproc.core.plugin import Plugin
from extproc.core.strict_json import NotStrict
from extproc.core.values import Response
from extproc.expressions.projections import ShapeFailed, TooMuch, written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from extproc.aggregation.budget import Gate
    from extproc.aggregation.plan import Plan, Shape
    from extproc.core.ports import Names, Services
    from extproc.core.values import Request
    from extproc.expressions.templates import Template

_REMEMBERED = 256  # shapes with some fields alone
_DIGITS = 3


class Aggregate(Plugin):
    """Answers from several calls.

    Attributes:
        plan: what was made of the gateway file.
        identity: headers that tell upstreams who is calling.
        assertion: makes the signed assertion for an upstream.
        cached: the route has a cache.
        ttl: seconds that it keeps what names no lifetime; None for not at all.
        gates: bounds of upstreams.
        varies: headers of the client that make a difference, in lower case; see `UNSEEN`. Empty
            where the route's cache says it.
        names: gives the names by which the answer to a request, at a time, may be purged.
    """

    plan: Plan
    identity: tuple[tuple[str, Template], ...] = ()
    assertion: Callable[[Request, str, float], tuple[str, str]] | None = None
    cached: bool = False
    ttl: float | None = None
    gates: Mapping[str, Gate]
    varies: frozenset[str] = frozenset()
    names: Callable[[Request, float], Names] | None = None

    def on_start(self, services: Services) -> None:
        """Take the caller, the clock and the metrics."""
        self._services = services
        self._counts = Counts(services.metrics)
        self._pruned: dict[tuple[str, tuple[str, ...]], Shape] = {}

    def on_request(self, request: Request) -> Awaitable[Response]:
        """Make the calls that the client's view needs, and shape the answer."""
        self._watch(request)
        return self.answer(request, None)

    def _watch(self, request: Request) -> None:
        """Take note of what plugins changed of the client's headers."""
        request.state.changed = frozenset() if self.cached else changed(request)

    async def answer(self, request: Request, sent: Any) -> Response:
        """Make the calls.

        Args:
            request: what came.
            sent: its body's value, where the calls read it.
        """
        plan, services = self.plan, self._services
        depth = _depth(request)
        if depth >= plan.bounds.depth:
            return Response.problem(
                508, "Loop detected", "Aggregations call each other.", reason="aggregate_depth"
            )
        shape = self.shape(request)
        about = self.names and partial(self.names, request, services.clock.now())
        # Only the route's cache says whether it minds what the client demands of what is stored.
        max_age = request.max_age if self.cached else inf
        telling = Telling(request, self.identity, self.assertion, depth, about, max_age)
        freshness = Freshness(self.ttl)
        run = Execution(
            plan, shape, request, telling, services, self._counts, freshness, self.gates, sent
        )
        try:
            await run.run()
            body = written(kept(run.composed(), shape.wanted))
        except CallFailed as error:
            return problem(error, plan.main)
        except TooMuch:
            return Response.problem(
                502, "Upstream failed", "The parts hold too much.", reason="part_too_much"
            )
        except ShapeFailed:
            return Response.problem(
                502, "Upstream failed", "A part has another shape.", reason="part_shape"
            )
        return self._response(request, body, run, freshness)

    def shape(self, request: Request) -> Shape:
        """Return the shape that the client gets.

        Raises:
            MalformedRequest: it names its fields in no way that can be read.
        """
        plan = self.plan
        view = plan.selection.view(request)
        shape = plan.views.get(view, plan.response)
        fields = plan.selection.wanted(request)
        if not fields:
            return shape
        key = (view if view in plan.views else "", fields)
        pruned = self._pruned.get(key)
        if pruned is None:
            if len(self._pruned) >= _REMEMBERED:
                self._pruned.clear()
            pruned = self._pruned[key] = plan.pruned(shape, wanted_of(fields))
        return pruned

    def _response(
        self, request: Request, body: bytes, run: Execution, freshness: Freshness
    ) -> Response:
        response = Response(200, {"content-type": "application/json"}, body)
        headers = response.headers
        if run.missing:
            headers["x-gateway-partial"] = ", ".join(sorted(run.missing))
            freshness.whole = False
        varies = freshness.varies.union(self.varies) if freshness.varies else self.varies
        # The route's cache knows for whom it stores; whoever stores the answer further on doesn't.
        told = not self.cached and (_is_personal(request) or _is_hidden(request, varies))
        control = freshness.control(private=told)
        if control is not None:
            headers["cache-control"] = control
        if varies and (named := sorted(varies - {UNSEEN})):
            headers["vary"] = ", ".join(named)
        response.metadata.update(tags=tuple(freshness.tags), whole=freshness.whole)
        return response


class AggregateBody(Aggregate):
    """Answers from several calls that need the request's body, or wait for its judgement."""

    def on_request(self, request: Request) -> None:  # type: ignore[override]  # waits for the body
        """Wait for the body."""
        self._watch(request)

    def on_request_body(self, request: Request, body: bytes) -> Awaitable[Response] | Response:
        """Read the body strictly, and make the calls; one that says it is something else is not."""
        if body and not _may_be_json(request):
            detail = "The body isn't said to be JSON in UTF-8, or is encoded."
            return Response.problem(415, "Body refused", detail, reason="body_type")
        try:
            value = strict_json.read(body) if body else None
        except NotStrict as error:
            return Response.malformed(f"The body can't be read: {error}.", reason="malformed_body")
        return self.answer(request, value)


class Private(Plugin):
    """Says on the way out, behind the cache, that an answer is for one principal.

    The route's cache keeps what each principal gets apart; a cache further on doesn't know how.
    """

    def on_response(self, request: Request, response: Response) -> None:
        """Make a lifetime one for the client alone."""
        if not _is_personal(request):
            return
        control = response.headers.get("cache-control")
        if control is None:
            if not response.reason:
                response.headers["cache-control"] = "private"
        elif control.startswith(("max-age=", "s-maxage=")):
            response.headers["cache-control"] = f"private, {control}"


def _may_be_json(request: Request) -> bool:
    kinds = request.headers.get_all("content-type")
    if strict_json.is_encoded(request.headers.get_all("content-encoding")):
        return False
    return not kinds or strict_json.says_json(kinds)


def _is_personal(request: Request) -> bool:
    """Say whether an answer is for one alone, as far as caches further on can know.

    Those take `must-revalidate` and `s-maxage` for leave to share what was asked for with
    credentials (RFC 9111 section 3.5), and the parts say that of themselves alone.
    """
    known = request.principal.kind != "anonymous" or bool(request.consumer)
    return known or bool(request.headers.received("authorization"))


def _is_hidden(request: Request, varies: frozenset[str]) -> bool:
    """Say whether an answer varies by what the client's own headers don't tell."""
    return UNSEEN in varies or not varies.isdisjoint(request.state.changed)


def _depth(request: Request) -> int:
    """Return how many aggregations stand before this one; what isn't a number is one too many."""
    text = request.headers.get(DEPTH)
    if text is None:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else 1000
