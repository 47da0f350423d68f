"""The plugins that decide whether a request may go on, and which class of client it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from extproc.authorization.bodies import Read, WrongBody, body_of
from extproc.authorization.policies import Decision, Deny, Policy, consumer_of, judged
from extproc.core.plugin import Plugin
from extproc.core.values import MalformedRequest, Response
from extproc.expressions.conditions import Condition, Context, together
from extproc.expressions.memory import Memory
from extproc.expressions.metered import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.core.ports import Services
    from extproc.core.values import Request
    from extproc.expressions.inputs import Inputs


class Consumers(Plugin):
    """Names the request's consumer: the first whose condition is true (an error is not).

    A consumer that the credential names, as an API key does, wins.
    """

    consumers: tuple[tuple[str, Condition], ...]
    inputs: Inputs

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def on_request(self, request: Request) -> None:
        """Set `request.consumer`."""
        context = Context(request, self._clock.now())
        request.facts.inputs, request.facts.absent = _read(self.inputs, context)
        request.consumer = consumer_of(self.consumers, context)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What policies say of a request; nobody may change it.

    Attributes:
        decision: of the enforced rules.
        candidate: what the candidates would have decided, and by which rule; None without any.
        differs: `allow_to_deny` or `deny_to_allow`; empty where they agree.
        inputs: the values that were read, by name.
        absent: the names that had none.
    """

    decision: Decision
    candidate: tuple[str, str] | None
    differs: str
    inputs: dict[str, Any] | None
    absent: tuple[str, ...]


class _Judge(Plugin):
    """Judges by policies, of which each must allow.

    A judgement is a pure function of the names that the policies and the record read. Where those
    are the principal and what few requests differ in, it is made once for each combination.

    Attributes:
        policies: each must allow.
        inputs: what the record names of what they read.
        challenges: what asks nobody for the credentials that the route accepts; where it accepts
            none, a bearer token is asked for, since a 401 has to name something.
    """

    policies: tuple[Policy, ...]
    inputs: Inputs
    challenges: tuple[str, ...] = ()

    def on_start(self, services: Services) -> None:
        """Take the clock and the metrics."""
        self._services = services
        self._counters: dict[tuple[str, ...], Callable[[int], object]] = {}
        self._candidates = any(policy.candidate is not None for policy in self.policies)
        self.conditions = [c for policy in self.policies for c in policy.conditions]
        read = {name for condition in self.conditions for name in condition.expression.names}
        self._memory: Memory[Judgement] = Memory(read | set(self.inputs.names))

    def _judged(self, request: Request, body: Any = None) -> Response | None:
        made = self._memory.get(request) if self._memory.applies else None
        if made is None:
            context = Context(request, self._services.clock.now(), body=body)
            context.taken = None if body is None else {}
            context.allowance = Allowance()
            made = self._judgement(context)
        facts = request.facts
        if facts.inputs is None:
            facts.inputs, facts.absent = made.inputs, made.absent
        if made.candidate is not None:
            self._compare(request, made)
        decision = made.decision
        if isinstance(decision, Deny):
            facts.rule, facts.reason = decision.rule, decision.reason
            self._count(request.route, "deny", decision.reason)
            return self._refusal(request, decision)
        facts.rule = f"{facts.rule},{decision.rule}" if facts.rule else decision.rule
        self._count(request.route, "allow", "")
        return None

    def _refusal(self, request: Request, decision: Deny) -> Response:
        """403 for a principal; 401 for nobody, who may try again with a credential."""
        if request.principal.kind == "anonymous":
            response = Response.problem(
                401, "Authentication required", decision.detail, reason="unauthenticated"
            )
            for challenge in self.challenges or ('Bearer realm="gateway"',):
                response.headers.add("www-authenticate", challenge)
        else:
            response = Response.problem(403, "Forbidden", decision.detail, reason=decision.reason)
        response.headers["cache-control"] = "no-store"
        return response

    def _judgement(self, context: Context) -> Judgement:
        """Judge, and say what the record needs.

        Raises:
            MalformedRequest: the request can't be decoded.
        """
        inputs, absent = _read(self.inputs, context)
        try:
            decision = judged(self.policies, context)
        except MalformedRequest:
            facts = context.request.facts
            facts.inputs, facts.absent = facts.inputs or inputs, facts.absent or absent
            raise
        candidate, differs = None, ""
        if self._candidates:
            other = self._candidate(context)
            said, would = _word(decision), _word(other)
            candidate, differs = (would, other.rule), f"{said}_to_{would}"
            differs = differs if said != would else ""
        made = Judgement(decision, candidate, differs, inputs, absent)
        return self._memory.put(context.request, made) if self._memory.applies else made

    def _candidate(self, context: Context) -> Decision:
        """Judge the candidates as well; whatever they say, or fail with, is only recorded."""
        policies = [policy.candidate or policy for policy in self.policies]
        try:
            return judged(policies, context)
        except MalformedRequest:
            return Deny("", "malformed")

    def _compare(self, request: Request, made: Judgement) -> None:
        request.facts.candidate = made.candidate
        if made.differs:
            self._services.metrics.count(
                "extproc_candidate_differences_total", (request.route, made.differs)
            )

    def _count(self, *labels: str) -> None:
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._services.metrics.counter("extproc_decisions_total", labels)
            self._counters[labels] = counter
        counter(1)


class Authorize(_Judge):
    """Lets the request through only if every policy that needs no body allows it."""

    def on_request(self, request: Request) -> Response | None:
        """Judge the request."""
        return self._judged(request)


class AuthorizeBody(_Judge):
    """Lets through only JSON, and only if every policy that reads `request.body` allows it.

    Nothing behind it answers, calls or changes anything before that.
    """

    judges_body: ClassVar[bool] = True

    def on_start(self, services: Services) -> None:
        """Take note of what the policies read of a body."""
        super().on_start(services)
        self.read = Read(self.conditions)
        together(condition.expression for condition in self.conditions)

    def on_request_body(self, request: Request, body: bytes) -> Response | None:
        """Read the body strictly, then judge."""
        try:
            value = body_of(request, body, self.read)
        except WrongBody as error:
            request.facts.reason = error.reason
            return Response.problem(error.status, "Body refused", str(error), reason=error.reason)
        if not self.policies:
            return None
        return self._judged(request, value)


def _word(decision: Decision) -> str:
    return "deny" if isinstance(decision, Deny) else "allow"


def _read(inputs: Inputs, context: Context) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return what the conditions read; what can't be decoded has its own answer."""
    try:
        return inputs.of(context)
    except MalformedRequest:
        return None, ()
