"""The calls that an aggregation would make, with what is known of each before any is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.aggregation.failures import CallFailed, Unusable, problem, without
from extproc.aggregation.legs import Leg, PartState, context_of
from extproc.aggregation.requests import Telling
from extproc.aggregation.tree import described
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.aggregation.calls import Call
    from extproc.aggregation.plugin import Aggregate
    from extproc.core.values import Request, Response


class Planned:
    """The calls for one request.

    Args:
        plugin: makes the calls.
        request: what came.
        now: seconds since the epoch.
        body: the value of the request's, where the calls read it.

    Raises:
        MalformedRequest: the gateway would answer 400.
    """

    def __init__(self, plugin: Aggregate, request: Request, now: float, body: Any = None) -> None:
        self._plan, self._shape = plugin.plan, plugin.shape(request)
        self._context = context_of(request, now, {}, body)
        self._telling = Telling(request, (), None, 0)

    def lines(self) -> Iterator[str]:
        """Yield a line for each call; those that a view or the fields don't need aren't made.

        Raises:
            MalformedRequest: as above.
        """
        plan, context = self._plan, self._context
        for part in self._shape.calls:
            call, needs = plan.calls[part], sorted(plan.needs[part])
            waits = f", after {', '.join(needs)}" if needs else ""
            if call.when is not None and plan.calls.keys().isdisjoint(call.when.expression.names):
                if not call.is_wanted(context):
                    source = call.when.expression.source
                    yield f"{part}: not made, as its `when` isn't true: {source}"
                    continue
            elif call.when is not None:
                waits += f", when {call.when.expression.source}"
            optional = "" if call.required else ", not required"
            target = self._target(call, waits)
            many = "" if call.each is None else f", for each of {call.each.source}"
            if many and not waits:
                many += self._how_many(call)
            other = "" if call.fallback is None else f", else {described(call.fallback)}"
            yield f"{part}: {call.method} {call.upstream} {target}{many}{waits}{optional}{other}"
        skipped = [part for part in plan.calls if part not in self._shape.calls]
        if skipped:
            yield f"not made, as nothing reads them: {', '.join(skipped)}"

    def refused(self) -> Response | None:
        """Return the answer where the request alone keeps a required call from being made.

        Raises:
            MalformedRequest: as above.
        """
        for part in self._shape.calls:
            call = self._plan.calls[part]
            if self._plan.needs[part] or not call.required or not call.is_wanted(self._context):
                continue
            failure = self._failure(call)
            if failure is not None and (call.fallback is None or self._failure(call.fallback)):
                return problem(CallFailed(call, failure), self._plan.main)
        return None

    def _legs(self, call: Call) -> list[Leg]:
        state = PartState(call, None)
        if call.each is None:
            return [Leg(state, call, None)]
        return state.cut(call.keys(self._context, lambda _part: {}), self._plan.bounds.calls)

    def _how_many(self, call: Call) -> str:
        try:
            made = len(self._legs(call))
        except Unusable as failure:
            return f" (that can't be: {failure.reason})"
        return f" ({made} call{'' if made == 1 else 's'})"

    def _failure(self, call: Call) -> Unusable | None:
        """Return why one that waits for no part can't be made; None where it can be."""
        try:
            for leg in self._legs(call):
                try:
                    self._telling.outgoing(call, leg.context(self._context, {}))
                except NoValue as error:
                    if not leg.leads_nowhere(error):
                        return without(error, of_client=call.keys_of_client)
        except Unusable as failure:
            failure.unfit |= call.keys_of_client
            return failure
        return None

    def _target(self, call: Call, waits: str) -> str:
        """Return the target where it doesn't depend on another call, else its template."""
        if waits or call.each is not None:
            return call.path.source
        try:
            return call.path.target(self._context)
        except NoValue:
            return f"{call.path.source} (a part of it has no value, so the call fails)"
