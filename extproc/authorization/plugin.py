"""The plugins that decide whether a request may go on, and which class of client it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authorization.policies import Deny, Policy
from extproc.core.plugin import Plugin
from extproc.core.values import Response
from extproc.expressions.conditions import Condition, Context, EvaluationFailed

if TYPE_CHECKING:
    from extproc.core.ports import Services
    from extproc.core.values import Request


class Consumers(Plugin):
    """Names the request's consumer: the first whose condition is true (an error is not)."""

    consumers: tuple[tuple[str, Condition], ...]

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def on_request(self, request: Request) -> None:
        """Set `request.consumer`."""
        context = Context(request, self._clock.now())
        for name, condition in self.consumers:
            try:
                if condition.holds(context):
                    request.consumer = name
                    return
            except EvaluationFailed:
                continue


class Authorize(Plugin):
    """Lets the request through only if every policy of the route allows it."""

    policies: tuple[Policy, ...]

    def on_start(self, services: Services) -> None:
        """Take the clock and the metrics."""
        self._services = services

    def on_request(self, request: Request) -> Response | None:
        """Judge the request."""
        context = Context(request, self._services.clock.now())
        for policy in self.policies:
            decision = policy.decide(context)
            if isinstance(decision, Deny):
                self._count(request, "deny", decision.reason)
                return _refusal(request, decision)
        self._count(request, "allow", "")
        return None

    def _count(self, request: Request, decision: str, reason: str) -> None:
        self._services.metrics.count("extproc_decisions_total", (request.route, decision, reason))


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
