"""The plugin that runs a plan: each call begins when the parts it waits for are there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extproc.core.errors import UpstreamFault
from extproc.core.plugin import Plugin
from extproc.core.values import Response
from extproc.expressions.conditions import Context
from extproc.expressions.projections import NotJson, ShapeFailed, parsed, written
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from extproc.aggregation.plan import Call, Plan, Shape
    from extproc.core.ports import Services
    from extproc.core.values import Request
    from extproc.expressions.templates import Template

_SUCCESS = range(200, 300)
# Headers of the request that go along with each call: to find it again, and for its language.
_CARRIED = ("x-request-id", "traceparent", "tracestate", "accept-language")


class CallFailed(Exception):
    """A call gave no part.

    Attributes:
        reason: connect, timeout, too_large, protocol, status, not_json or no_value.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


@dataclass(slots=True)
class _Run:
    """One request's parts."""

    request: Request
    parts: dict[str, Any]
    missing: set[str]
    tasks: dict[str, asyncio.Task[None]]
    ends: float


class Aggregate(Plugin):
    """Answers from several calls.

    Attributes:
        plan: what was made of the gateway file.
        identity: headers that tell upstreams who is calling.
    """

    plan: Plan
    identity: tuple[tuple[str, Template], ...] = ()
    assertion: Callable[[Request, str, float], tuple[str, str]] | None = None

    def on_start(self, services: Services) -> None:
        """Take the caller, the clock and the metrics."""
        self._services = services

    async def on_request(self, request: Request) -> Response:
        """Make the calls that the client's view needs, and shape the answer."""
        shape = self.plan.views.get(request.consumer, self.plan.response)
        ends = self._services.clock.monotonic() + self.plan.deadline
        run = _Run(request, {}, set(), {}, ends)
        try:
            await self._make(run, shape)
            return _answer(run, shape)
        except TimeoutError:
            return Response.problem(
                504, "Deadline passed", "The parts took too long.", reason="aggregate_deadline"
            )
        except CallFailed as error:
            return _failure(error)
        except ShapeFailed:
            return Response.problem(
                502, "Upstream failed", "A part has another shape.", reason="part_shape"
            )
        finally:
            for task in run.tasks.values():
                task.cancel()
                task.add_done_callback(_seen)

    async def _make(self, run: _Run, shape: Shape) -> None:
        """Start every call; each waits for its own needs; the first failure ends all.

        Raises:
            CallFailed: a required call failed.
            TimeoutError: the deadline passed.
        """
        for part in shape.calls:
            run.tasks[part] = asyncio.ensure_future(self._part(run, part))
        pending: set[asyncio.Task[None]] = set(run.tasks.values())
        while pending:
            left = run.ends - self._services.clock.monotonic()
            done, pending = await asyncio.wait(
                pending, timeout=max(left, 0), return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                task.result()
            if pending and not done:
                self._give_up(run, pending)
                return

    def _give_up(self, run: _Run, pending: set[asyncio.Task[None]]) -> None:
        """At the deadline parts that aren't required get their default; others are missed.

        Raises:
            TimeoutError: a required part is missing.
        """
        for part, task in run.tasks.items():
            if task in pending:
                call = self.plan.calls[part]
                self._done(run, call, "deadline")
                if call.required:
                    raise TimeoutError
                task.cancel()
                run.parts[part] = call.default
                run.missing.add(part)

    async def _part(self, run: _Run, part: str) -> None:
        call = self.plan.calls[part]
        needs = self.plan.needs[part]
        if needs:
            await asyncio.gather(*(asyncio.shield(run.tasks[need]) for need in needs))
        try:
            run.parts[part] = await self._call(run, call)
        except CallFailed as error:
            self._done(run, call, error.reason)
            if call.required:
                raise
            run.parts[part] = call.default
            run.missing.add(part)
        else:
            self._done(run, call, "ok")

    async def _call(self, run: _Run, call: Call) -> Any:
        context = Context(run.request, self._services.clock.now(), parts=run.parts)
        try:
            target = call.path.target(context)
        except NoValue as error:
            raise CallFailed(call.part, "no_value") from error
        left = run.ends - self._services.clock.monotonic()
        limit = left if call.timeout is None else min(call.timeout, left)
        try:
            answer = await self._services.call(
                call.upstream,
                "GET",
                target,
                headers=self._headers(run.request, call, context),
                timeout=max(limit, 0.001),
            )
        except UpstreamFault as error:
            raise CallFailed(call.part, error.reason) from error
        if answer.status not in _SUCCESS:
            raise CallFailed(call.part, "status")
        try:
            return parsed(answer.body)
        except NotJson as error:
            raise CallFailed(call.part, "not_json") from error

    def _headers(self, request: Request, call: Call, context: Context) -> list[tuple[str, str]]:
        """Return what goes along; a client's credentials don't."""
        headers = [("accept", "application/json")]
        headers += [
            (name, value) for name in _CARRIED if (value := request.headers.get(name)) is not None
        ]
        own = (*call.headers, *(self.identity if call.send_identity else ()))
        for name, template in own:
            try:
                headers.append((name, template.header(context)))
            except NoValue:
                continue
        if call.send_identity and self.assertion is not None:
            headers.append(self.assertion(request, call.upstream, context.now))
        return headers

    def _done(self, run: _Run, call: Call, outcome: str) -> None:
        """Count a call that ended, and put it into the record."""
        self._services.metrics.count("extproc_calls_total", (call.upstream, outcome))
        facts = run.request.facts
        if facts.calls is None:
            facts.calls = []
        facts.calls.append({"part": call.part, "upstream": call.upstream, "outcome": outcome})


def _seen(task: asyncio.Task[None]) -> None:
    """Look at a failure that another one came before, so that asyncio doesn't report it."""
    if not task.cancelled():
        task.exception()


def _answer(run: _Run, shape: Shape) -> Response:
    indexes: Mapping[str, Mapping[str, Any]] = {}
    body = written(shape.projection.of(run.parts, indexes))
    response = Response(200, {"content-type": "application/json"}, body)
    if run.missing:
        response.headers["x-gateway-partial"] = ", ".join(sorted(run.missing))
    return response


def _failure(error: CallFailed) -> Response:
    """502 for a part that is broken; 504 for one that took too long."""
    if error.reason == "timeout":
        return Response.problem(
            504, "Deadline passed", f"The part {error.part} took too long.", reason="part_deadline"
        )
    return Response.problem(
        502, "Upstream failed", f"The part {error.part} is not available.", reason="part_failed"
    )
