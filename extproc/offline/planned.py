"""The calls that an aggregation would make, with what is known of each before any is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.aggregation.tree import described
from extproc.expressions.conditions import Context
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from extproc.aggregation.calls import Call
    from extproc.aggregation.plugin import Aggregate
    from extproc.core.values import Request
    from extproc.expressions.conditions import Condition


def planned(plugin: Aggregate, request: Request, now: float, body: Any = None) -> Iterator[str]:
    """Yield a line for each call; those that a view or the fields don't need aren't made.

    Args:
        plugin: makes the calls.
        request: what came.
        now: seconds since the epoch.
        body: the value of the request's, where the calls read it.

    Raises:
        MalformedRequest: the gateway would answer 400.
    """
    plan, shape = plugin.plan, plugin.shape(request)
    context = Context(request, now, parts={}, body=body)
    for part in shape.calls:
        call, needs = plan.calls[part], sorted(plan.needs[part])
        waits = f", after {', '.join(needs)}" if needs else ""
        if call.when is not None and _is_known(call.when, plan.calls):
            if not call.is_wanted(context):
                yield f"{part}: not made, as its `when` isn't true: {call.when.expression.source}"
                continue
        elif call.when is not None:
            waits += f", when {call.when.expression.source}"
        optional = "" if call.required else ", not required"
        target = _target(call, context, waits)
        many = "" if call.each is None else f", for each of {call.each.source}"
        other = "" if call.fallback is None else f", else {described(call.fallback)}"
        yield f"{part}: {call.method} {call.upstream} {target}{many}{waits}{optional}{other}"
    skipped = [part for part in plan.calls if part not in shape.calls]
    if skipped:
        yield f"not made, as nothing reads them: {', '.join(skipped)}"


def _is_known(when: Condition, parts: Collection[str]) -> bool:
    """Say whether a condition reads nothing that only comes with calls."""
    return set(parts).isdisjoint(when.expression.names)


def _target(call: Call, context: Context, waits: str) -> str:
    """Return the target where it doesn't depend on another call, else its template."""
    if waits or call.each is not None:
        return call.path.source
    try:
        return call.path.target(context)
    except NoValue:
        return f"{call.path.source} (a part of it has no value, so the call fails)"
