"""The plugins that decide whether a request may go on, and which class of client it is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from extproc.authorization.bodies import WrongBody, body_of
from extproc.authorization.policies import Decision, Deny, Policy, consumer_of, judged
from extproc.core.plugin import Plugin
from extproc.core.values import MalformedRequest, Response
from extproc.expressions.conditions import Condition, Context

if TYPE_CHECKING:
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
        _note(request, self.inputs, context)
        request.consumer = consumer_of(self.consumers, context)


class _Judge(Plugin):
    """Judges by policies, of which each must allow."""

    policies: tuple[Policy, ...]
    inputs: Inputs

    def on_start(self, services: Services) -> None:
        """Take the clock and the metrics."""
        self._services = services
        self._candidates = any(policy.candidate is not None for policy in self.policies)

    def _judged(self, request: Request, context: Context) -> Response | None:
        facts = request.facts
        if facts.inputs is None:
            _note(request, self.inputs, context)
        decision = judged(self.policies, context)
        facts.rule = f"{facts.rule},{decision.rule}" if facts.rule else decision.rule
        if self._candidates:
            self._compare(request, context, decision)
        if isinstance(decision, Deny):
            facts.rule = decision.rule
            self._count(request, "deny", decision.reason)
            facts.reason = decision.reason
            return _refusal(request, decision)
        self._count(request, "allow", "")
        return None

    def _compare(self, request: Request, context: Context, enforced: Decision) -> None:
        """Judge the candidates as well; whatever they say, or fail with, is only recorded."""
        policies = [policy.candidate or policy for policy in self.policies]
        try:
            other = judged(policies, context)
        except MalformedRequest:
            other = Deny("", "malformed")
        said, would = _word(enforced), _word(other)
        request.facts.candidate = (would, other.rule)
        if said != would:
            self._services.metrics.count(
                "extproc_candidate_differences_total", (request.route, f"{said}_to_{would}")
            )

    def _count(self, request: Request, decision: str, reason: str) -> None:
        self._services.metrics.count("extproc_decisions_total", (request.route, decision, reason))


class Authorize(_Judge):
    """Lets the request through only if every policy that needs no body allows it."""

    def on_request(self, request: Request) -> Response | None:
        """Judge the request."""
        return self._judged(request, Context(request, self._services.clock.now()))


class AuthorizeBody(_Judge):
    """Lets through only JSON, and only if every policy that reads `request.body` allows it."""

    def on_request_body(self, request: Request, body: bytes) -> Response | None:
        """Read the body strictly, then judge."""
        try:
            value = body_of(request, body)
        except WrongBody as error:
            request.facts.reason = error.reason
            return Response.problem(error.status, "Body refused", str(error), reason=error.reason)
        if not self.policies:
            return None
        return self._judged(request, Context(request, self._services.clock.now(), body=value))


def _word(decision: Decision) -> str:
    return "deny" if isinstance(decision, Deny) else "allow"


def _note(request: Request, inputs: Inputs, context: Context) -> None:
    """Put what the conditions read into the record; what can't be decoded has its own answer."""
    with suppress(MalformedRequest):
        request.facts.inputs, request.facts.absent = inputs.of(context)


def _refusal(request: Request, decision: Deny) -> Response:
    """403 for a principal; 401 for nobody, who may try again with a credential."""
    if request.principal.kind == "anonymous":
        response = Response.problem(
            401, "Authentication required", decision.detail, reason="unauthenticated"
        )
        response.headers["www-authenticate"] = 'Bearer realm="gateway"'
    else:
        response = Response.problem(403, "Forbidden", decision.detail, reason=decision.reason)
    response.headers["cache-control"] = "no-store"
    return response
