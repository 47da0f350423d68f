"""The plan of an aggregation: which call waits for which, and which a view needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extproc.core.errors import ConfigFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from extproc.expressions.projections import Projection
    from extproc.expressions.templates import Template


class PlanFault(ConfigFault):
    """The calls can't be ordered; `part` says where."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(problem)
        self.part = part


@dataclass(frozen=True, slots=True)
class Call:
    """One call and what its failure means.

    Attributes:
        part: the name of its contribution.
        upstream: where it goes.
        path: path and query; names the parts it waits for.
        headers: further headers.
        required: whether the answer fails without it.
        timeout: seconds; None for the upstream's own.
        default: stands in for a part that isn't required and failed.
        send_identity: whether the upstream is told who is calling.
    """

    part: str
    upstream: str
    path: Template
    headers: tuple[tuple[str, Template], ...] = ()
    required: bool = True
    timeout: float | None = None
    default: Any = None
    send_identity: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """A response or a view, and the calls it needs, in the file's order."""

    projection: Projection
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before a request comes.

    Attributes:
        calls: by part.
        needs: for each part, the parts its call waits for.
        response: the answer without a view.
        views: by name.
        deadline: seconds for all calls together.
    """

    calls: Mapping[str, Call]
    needs: Mapping[str, frozenset[str]]
    response: Shape
    views: Mapping[str, Shape]
    deadline: float


def plan(
    calls: Iterable[Call],
    response: Projection,
    views: Mapping[str, Projection],
    deadline: float,
) -> Plan:
    """Order calls and find out which each view needs.

    Raises:
        PlanFault: calls wait for each other in a circle, or a lookup names no part.
    """
    by_part = {call.part: call for call in calls}
    needs = {part: _names(call) & by_part.keys() for part, call in by_part.items()}
    for part in by_part:
        _closure(part, needs, ())
    return Plan(
        by_part,
        {part: frozenset(names) for part, names in needs.items()},
        _shape(response, needs),
        {name: _shape(view, needs) for name, view in views.items()},
        deadline,
    )


def _names(call: Call) -> frozenset[str]:
    templates = (call.path, *(template for _, template in call.headers))
    return frozenset(name for template in templates for name in template.names)


def _closure(part: str, needs: Mapping[str, Any], on_the_way: tuple[str, ...]) -> frozenset[str]:
    """Return a part and everything it waits for."""
    if part in on_the_way:
        circle = " → ".join((*on_the_way[on_the_way.index(part) :], part))
        raise PlanFault(part, f"waits for itself: {circle}")
    found = {part}
    for other in sorted(needs[part]):
        found |= _closure(other, needs, (*on_the_way, part))
    return frozenset(found)


def _shape(projection: Projection, needs: Mapping[str, Any]) -> Shape:
    for name in projection.lookups - needs.keys():
        raise PlanFault("", f"looks up {name}, which is no part")
    read = set(needs) if "*" in projection.fields else projection.fields & needs.keys()
    wanted = {other for part in read for other in _closure(part, needs, ())}
    return Shape(projection, tuple(part for part in needs if part in wanted))
