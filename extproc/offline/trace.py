"""What each plugin saw, decided and changed: a guard that looks before and after each hook.

It stands in the place of the guard that serves traffic, which knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from extproc.aggregation.plugin import Aggregate, AggregateBody
from extproc.core import strict_json
from extproc.core.guard import Answer, Guard, Limits
from extproc.core.values import MalformedRequest, Request, Response
from extproc.offline.explaining import RuleSeen, explained
from extproc.offline.planned import Planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.core.plugin import Plugin
    from extproc.core.ports import Log, Observer, Runtime


@dataclass(slots=True)
class Step:
    """One hook of one plugin.

    Attributes:
        plugin: its name.
        phase: which hook.
        outcome: `went on`, or what it answered.
        answered: whether it did, or would from its calls.
        changes: of the request, for people.
        why: what it looked at and concluded, for people.
        rules: of policies, each with what it gave.
        reads: the values that conditions read.
    """

    plugin: str
    phase: str
    outcome: str = ""
    answered: bool = False
    changes: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    rules: list[RuleSeen] = field(default_factory=list)
    reads: dict[str, Any] = field(default_factory=dict)

    def ended(self, answer: Answer) -> None:
        """Take note of what a hook returned."""
        self.outcome, self.answered = _outcome(answer), isinstance(answer, Response)


@dataclass(slots=True)
class Trace:
    """The steps of one request.

    Attributes:
        steps: in order.
        now: seconds since the epoch, for conditions that are judged again to be shown.
        notes: what happened inside a hook: calls it wanted to make, signatures not checked.
    """

    steps: list[Step] = field(default_factory=list)
    now: float = 0.0
    notes: list[str] = field(default_factory=list)


class TracingGuard(Guard):
    """A guard that notes what its plugin does."""

    trace: Trace

    @classmethod
    def of(
        cls,
        plugin: Plugin,
        name: str,
        limits: Limits,
        trace: Trace,
        ports: tuple[Runtime, Observer, Log],
    ) -> TracingGuard:
        """Return a guard that notes into a trace."""
        guard = cls(plugin, name, limits, *ports)
        guard.trace = trace
        return guard

    def call(
        self, phase: str, hook: Callable[..., Any], *arguments: Any
    ) -> Answer | Awaitable[Answer]:
        """Run one hook and note what came of it."""
        if phase == "finish":
            return super().call(phase, hook, *arguments)
        request = arguments[0]
        step = Step(self.name, phase)
        self.trace.steps.append(step)
        if isinstance(self.plugin, Aggregate) and phase == _calls_in(self.plugin):
            return self._not_called(step, self.plugin, *arguments)
        before, wanted = _seen(request), len(self.trace.notes)

        def done(answer: Answer) -> Answer:
            self._note(step, request, before, answer)
            step.why += self.trace.notes[wanted:]
            return answer

        answer = super().call(phase, hook, *arguments)
        return _noted(answer, done) if isinstance(answer, Awaitable) else done(answer)

    def _not_called(
        self, step: Step, plugin: Aggregate, request: Request, body: bytes = b""
    ) -> Answer:
        """Say which calls would be made; an answer of nothing stands in for theirs.

        What the request alone decides is the answer: nothing can be called for what it holds.
        """
        sent = None
        if isinstance(plugin, AggregateBody):
            judged = plugin.on_request_body(request, body)
            if isinstance(judged, Response):  # the body can't be read
                step.ended(judged)
                return judged
            if isinstance(judged, Coroutine):
                judged.close()  # it would make the calls
            sent = strict_json.read(body) if body else None
        try:
            planned = Planned(plugin, request, self.trace.now, sent)
            step.why += planned.lines()
            refused: Answer = planned.refused()
        except MalformedRequest as error:
            refused = self._raised(step.phase, error)  # as where it is raised in a hook
        if refused is not None:
            step.ended(refused)
            return refused
        step.outcome, step.answered = "would answer from these calls", True
        return Response(200, {"content-type": "application/json"}, b"null")

    def _note(self, step: Step, request: Request, before: _Seen, answer: Answer) -> None:
        step.ended(answer)
        step.changes += _differences(before, _seen(request))
        if step.phase in {"request", "request_body"}:
            explanation = explained(self.plugin, request, self.trace.now, answer)
            step.why += explanation.why
            step.rules += explanation.rules
            step.reads = explanation.reads


def _calls_in(plugin: Aggregate) -> str:
    """Return the hook in which the calls are made: one that waits for the body is judged first."""
    return "request_body" if isinstance(plugin, AggregateBody) else "request"


async def _noted(answer: Awaitable[Answer], done: Callable[[Answer], Answer]) -> Answer:
    return done(await answer)


def _outcome(answer: Answer) -> str:
    if isinstance(answer, Response):
        reason = f" ({answer.reason})" if answer.reason else ""
        return f"answered {answer.status}{reason}"
    return "went on" if answer is None else f"replaced the body ({len(answer)} bytes)"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a plugin may change, at one moment."""

    headers: dict[str, tuple[str, ...]]
    rewritten: str | None
    principal: str
    consumer: str


def _seen(request: Request) -> _Seen:
    headers = {name: tuple(request.headers.get_all(name)) for name in request.headers}
    return _Seen(headers, request.rewritten, named(request), request.consumer)


def named(request: Request) -> str:
    """Name a request's principal."""
    principal = request.principal
    if principal.kind == "anonymous":
        return "anonymous"
    return f"{principal.subject or '(no subject)'} ({principal.kind}, by {principal.authenticator})"


def _differences(before: _Seen, after: _Seen) -> list[str]:
    lines = []
    for name in {**before.headers, **after.headers}:
        was, now = before.headers.get(name), after.headers.get(name)
        if was != now:
            lines.append(f"- {name}" if now is None else f"{name}: {', '.join(now)}")
    if after.rewritten != before.rewritten:
        lines.append(f"path for the upstream: {after.rewritten}")
    if after.principal != before.principal:
        lines.append(f"principal: {after.principal}")
    if after.consumer != before.consumer:
        lines.append(f"consumer: {after.consumer or '(none)'}")
    return lines
