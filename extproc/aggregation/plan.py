"""The plan of an aggregation: which call waits for which, and which a view needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extproc.aggregation.budget import Bounds
from extproc.aggregation.calls import OF_REQUEST, Call
from extproc.aggregation.views import Selection
from extproc.core.errors import ConfigFault
from extproc.core.near import near
from extproc.expressions.projections import REQUEST, Projection, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class PlanFault(ConfigFault):
    """The calls can't be ordered.

    Attributes:
        place: where in the aggregation: `calls`, a part and so on, `response`, or a view.
        expected: what would be right.
    """

    def __init__(self, place: tuple[str, ...], problem: str, expected: str = "") -> None:
        super().__init__(problem)
        self.place = place
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Shape:
    """A response or a view, and the calls it needs.

    Attributes:
        projection: makes the answer of the parts.
        calls: in the file's order.
        waits: for how many others each waits.
        then: the calls that wait for each.
        wanted: members of the answer that are given; empty for all.
    """

    projection: Projection
    calls: tuple[str, ...]
    waits: Mapping[str, int]
    then: Mapping[str, tuple[str, ...]]
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before a request comes.

    Attributes:
        calls: by part.
        needs: for each part, the parts its call waits for.
        response: the answer without a view.
        views: by name.
        deadline: seconds for all calls together.
        main: the part whose 404 is the answer's; empty for none.
        bounds: of one exchange.
        selection: how a request says which view it wants.
        warnings: what isn't wrong, but hardly meant: place and problem.
        changes: a call may change something at its upstream.
    """

    calls: Mapping[str, Call]
    needs: Mapping[str, frozenset[str]]
    response: Shape
    views: Mapping[str, Shape]
    deadline: float
    main: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    selection: Selection = field(default_factory=lambda: Selection({}))
    warnings: tuple[tuple[tuple[str, ...], str], ...] = ()
    changes: bool = False

    def pruned(self, shape: Shape, wanted: Wanted) -> Shape:
        """Return a shape with some members alone, and with the calls that those need.

        What a client picks of the answer decides nothing about calls that change something.
        """
        changing = [part for part in shape.calls if self.calls[part].may_change]
        return _shape(shape.projection.pruned(wanted), self.needs, wanted, changing)


def plan(
    calls: Iterable[Call],
    response: Projection,
    views: Mapping[str, Projection],
    deadline: float,
    *,
    main: str | None = None,
    bounds: Bounds | None = None,
    selection: Selection | None = None,
) -> Plan:
    """Order calls and find out which each view needs.

    Args:
        calls: in the file's order.
        response: the answer without a view.
        views: by name.
        deadline: seconds for all calls together.
        main: the part whose 404 is the answer's; None for the first that is required.
        bounds: of one exchange.
        selection: how a request says which view it wants.

    Raises:
        PlanFault: calls wait for each other in a circle, or a shape reads what is no part.
    """
    by_part = {call.part: call for call in calls}
    needs = {part: frozenset(call.names()).intersection(by_part) for part, call in by_part.items()}
    for part, call in by_part.items():
        _check_each(call, by_part)
        _closure(part, needs, ())
    _check_shape(response, by_part, ("response",))
    for name, view in views.items():
        _check_shape(view, by_part, ("views", name))
    shapes = {name: _shape(view, needs) for name, view in views.items()}
    whole = _shape(response, needs)
    if main is None:
        main = next((part for part, call in by_part.items() if call.required), "")
    return Plan(
        by_part,
        needs,
        whole,
        shapes,
        deadline,
        main,
        bounds or Bounds(),
        selection or Selection({}),
        tuple(_warnings(by_part, needs, (whole, *shapes.values()))),
        any(call.may_change for call in by_part.values()),
    )


def _check_each(call: Call, parts: Mapping[str, Call]) -> None:
    if call.each is not None:
        place = ("calls", call.part, "each")
        for name in sorted(call.each.of_request.difference(OF_REQUEST)):
            problem = f"reads {REQUEST}.{name}" if name != "*" else f"reads {REQUEST} as a whole"
            known = ", ".join(f"{REQUEST}.{one}" for one in sorted(OF_REQUEST))
            raise PlanFault(place, f"{problem}, which gives no keys", f"expected one of {known}")
        _check_names(call.each, {**parts, REQUEST: call}, place)
        if call.part in call.each.lookups:
            raise PlanFault(place, f"waits for itself: {call.part} → {call.part}")


def _check_shape(projection: Projection, parts: Mapping[str, Call], place: tuple[str, ...]) -> None:
    for name in sorted(projection.lookups):
        if name not in parts:
            raise PlanFault(place, f"looks up {name}, which is no part", near(name, parts))
        if parts[name].each is None:
            raise PlanFault(
                place, f"looks up {name}, which has no `each`", "expected one with keys"
            )
    _check_names(projection, parts, place)


def _check_names(projection: Projection, parts: Mapping[str, Call], place: tuple[str, ...]) -> None:
    for name in sorted(projection.fields - {"*"}):
        if name not in parts:
            raise PlanFault(place, f"reads {name}, which is no part", near(name, parts))


def _closure(
    part: str, needs: Mapping[str, frozenset[str]], on_the_way: tuple[str, ...]
) -> frozenset[str]:
    """Return a part and everything it waits for."""
    if part in on_the_way:
        circle = " → ".join((*on_the_way[on_the_way.index(part) :], part))
        raise PlanFault(("calls", part), f"waits for itself: {circle}")
    found = {part}
    for other in sorted(needs[part]):
        found |= _closure(other, needs, (*on_the_way, part))
    return frozenset(found)


def _shape(
    projection: Projection,
    needs: Mapping[str, frozenset[str]],
    wanted: Wanted | None = None,
    always: Iterable[str] = (),
) -> Shape:
    read = set(needs) if "*" in projection.fields else set(projection.fields.intersection(needs))
    reached = {other for part in (*read, *always) for other in _closure(part, needs, ())}
    calls = tuple(part for part in needs if part in reached)
    then = {part: tuple(other for other in calls if part in needs[other]) for part in calls}
    waits = {part: len(needs[part]) for part in calls}
    return Shape(projection, calls, waits, then, wanted if wanted is not None else Wanted())


def _warnings(
    calls: Mapping[str, Call], needs: Mapping[str, frozenset[str]], shapes: tuple[Shape, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    used = {part for shape in shapes for part in shape.calls}
    for part, call in calls.items():
        if part not in used:
            yield ("calls", part), "is read by no response and no view, so it is never made"
        elif call.may_change and any(part not in shape.calls for shape in shapes):
            yield ("calls", part), "changes something, and isn't made for each view"
        for other in sorted(needs[part]):
            if call.required and not calls[other].required and calls[other].default is None:
                yield (
                    ("calls", part),
                    f"is required and waits for {other}, which isn't and has no default",
                )
