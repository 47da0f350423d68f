"""One request's calls: each begins when the parts it waits for are there.

Calls are under way at once, and none has a task. A part that nothing waits for is taken where it
arrives; for the rest the one coroutine of the exchange goes through what came, begins what has
become possible, and waits again. So all calls that begin together leave together, and whatever an
expression costs is counted as this plugin's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from extproc.aggregation import idempotency
from extproc.aggregation.budget import Budget
from extproc.aggregation.calls import SAFE
from extproc.aggregation.failures import CallFailed, Unusable, without
from extproc.aggregation.joins import NotJoinable
from extproc.aggregation.legs import Leg, PartState, context_of, outcome_of
from extproc.aggregation.underway import UnderWay, place_of
from extproc.aggregation.waking import Waking
from extproc.core.errors import UpstreamFault
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from extproc.aggregation.budget import Gate
    from extproc.aggregation.counts import Counts
    from extproc.aggregation.freshness import Freshness
    from extproc.aggregation.joins import Items
    from extproc.aggregation.plan import Plan, Shape
    from extproc.aggregation.requests import Outgoing, Telling
    from extproc.core.answered import Outstanding
    from extproc.core.ports import Services
    from extproc.core.values import Request

_NOT_FOUND = 404
_LEAST = 0.001  # seconds; with less left no call is begun


class Execution:
    """The calls of one exchange.

    Attributes:
        parts: by name, as they come.
        missing: the parts for which something stands in.
    """

    def __init__(
        self,
        plan: Plan,
        shape: Shape,
        request: Request,
        telling: Telling,
        services: Services,
        counts: Counts,
        freshness: Freshness,
        gates: Mapping[str, Gate],
        body: Any = None,
    ) -> None:
        self._plan = plan
        self._shape = shape
        self._request = request
        self._telling = telling
        self._counts = counts
        self._freshness = freshness
        self._gates = gates
        self._budget = Budget(plan.bounds)
        self._cached, monotonic = services.cached, services.clock.monotonic
        self._waking = Waking(asyncio.get_running_loop(), monotonic() + plan.deadline, monotonic)
        self._waits = dict(shape.waits)
        self._states: dict[str, PartState] = {}
        self._left_out: set[str] = set()
        self._queue: deque[Leg] = deque()
        self._under = UnderWay()
        self._arrived: list[Outstanding] = []
        self.parts: dict[str, Any] = {}
        self._context = context_of(request, services.clock.now(), self.parts, body)
        self.missing: set[str] = set()

    async def run(self) -> None:
        """Make every call of the shape; the first required one that fails ends all.

        Raises:
            CallFailed: a required call failed, or its time was over.
            MalformedRequest: a template reads a query that can't be decoded.
        """
        try:
            for part in self._shape.calls:
                if not self._waits[part]:
                    self._begin(part)
            self._pump()
            while len(self.parts) < len(self._shape.calls):
                if not self._arrived and not self._waking.late:
                    await self._waking.wait()
                self._take_all()
        finally:
            self._waking.stop()
            self._give_up()

    def composed(self) -> Any:
        """Return the answer made of the parts.

        Raises:
            ShapeFailed: a part has another shape.
            TooMuch: the parts hold too much, or the answer would.
        """
        most, taken = self._plan.bounds.bytes, self._budget.taken
        return self._shape.projection.of(self.parts, self.lookup, read=taken, most=most)

    def lookup(self, part: str) -> Items:
        """Return the items of a part by their keys."""
        state = self._states.get(part)
        return {} if state is None else state.items

    # ---- what arrives

    def _came(self, made: Outstanding) -> None:
        """Take a part for which nothing waits where it arrives; go on with everything else."""
        if made not in self._under.flying:
            return  # given up when the event loop had been told of it already
        taken = self._taken(made)
        if not taken:
            self._arrived.append(made)
        if not (taken and self._under.flying):
            self._waking.wake()

    def _taken(self, made: Outstanding) -> bool:
        """Take an answer that is its part, if nothing can begin or end by it."""
        legs = self._under.flying[made]
        leg = legs[0]
        state, call = leg.part, leg.call
        part = call.part
        simple = len(legs) == 1 and leg.keys is None and leg.gate is None and call is state.call
        ends = not (self._queue or self._shape.then[part] or part in self.parts)
        if not simple or not ends or made.exception() is not None:
            return False
        try:
            answer = made.result()
            value = call.kind.read(answer)
            self._budget.took(len(answer.body))
        except Exception:  # noqa: BLE001 - whatever it is, it is raised again where it is this
            return False  # exchange's alone: here it would be everybody's who shares the link
        del self._under.flying[made]
        state.came(answer.source)
        self._counts.one(call.upstream, state.outcome)
        self._freshness.took(answer)
        self._done(state, value)
        return True

    def _take_all(self) -> None:
        arrived, self._arrived = self._arrived, []
        for made in arrived:
            self._take(made)
        if self._waking.late:
            self._too_late()
        self._pump()

    # ---- parts

    def _begin(self, part: str) -> None:
        """Begin a part whose needs are there; its calls join the queue."""
        call = self._plan.calls[part]
        state = self._states[part] = PartState(call, None)
        if call.when is not None and not call.is_wanted(self._context):
            self._leave_out(state)
            return
        legs = [Leg(state, call, None)]
        try:
            if call.each is not None:
                legs = state.cut(call.keys(self._context, self.lookup), self._plan.bounds.calls)
        except Unusable as failure:
            self._failed(legs[0], failure)
            return
        state.open = len(legs)
        if self._plan.changes and call.required:
            self._queue.extend([leg for leg in legs if self._is_ready(leg)])
        else:
            self._queue.extend(legs)
        if not legs:
            self._each_done(state)

    def _is_ready(self, leg: Leg) -> bool:
        """Make what one sends before anything is sent: of changes none is made, or all can be."""
        leg.ready = self._filled(leg, ahead=True)
        return leg.ready is not None

    def _leave_out(self, state: PartState) -> None:
        """A call that isn't wanted: its part is null, and nothing is missing."""
        self._left_out.add(state.call.part)
        state.outcome = "left_out"
        self._done(state, None)

    def _done(self, state: PartState, value: Any) -> None:
        part = state.call.part
        if part in self.parts:
            return
        self.parts[part] = value
        state.note(self._request)
        for other in self._shape.then[part]:
            self._waits[other] -= 1
            if not self._waits[other]:
                self._begin(other)

    def _each_done(self, state: PartState) -> None:
        if state.failed:
            self.missing.add(state.call.part)
        self._done(state, state.whole())

    # ---- calls

    def _pump(self) -> None:
        while self._queue and len(self._under.flying) < self._plan.bounds.at_once:
            self._start(self._queue.popleft())

    def _start(self, leg: Leg) -> None:
        if leg.part.call.part in self.parts:
            return  # something stands in already
        outgoing = leg.ready or self._filled(leg)
        if outgoing is None or self._joins_equal(leg, outgoing):
            return
        try:
            if outgoing.method in SAFE:  # others count as soon as they can be made
                self._budget.call(place_of(leg.call, outgoing), outgoing.size)
        except Unusable as failure:
            self._unfit(leg, failure)
            return
        gate = self._gates.get(leg.call.upstream)
        if gate is not None:
            self._at_gate(leg, gate, outgoing)
        else:
            self._make(leg, outgoing)

    def _filled(self, leg: Leg, *, ahead: bool = False) -> Outgoing | None:
        """Return what a call sends, maybe ahead of its turn; None where it ended by that."""
        call = leg.call
        try:
            given = None if call.method in SAFE else self._telling.idempotency
            key = given and idempotency.key_of(given, self._plan.calls.values(), call, leg.keys)
            outgoing = self._telling.outgoing(call, leg.context(self._context, self.parts), key)
            if outgoing.method not in SAFE:
                self._budget.call("", outgoing.size)
            elif ahead and self._under.equal(leg, outgoing) is None:
                self._budget.need(place_of(call, outgoing))
        except NoValue as error:
            self._without_value(leg, error)
        except Unusable as failure:
            self._unfit(leg, failure)
        else:
            return outgoing
        return None

    def _unfit(self, leg: Leg, failure: Unusable) -> None:
        """A call can't be made; where the client chose its keys, that is the client's to mend."""
        parts = self._shape.calls if failure.of_all else (leg.call.part,)
        if any(self._plan.calls[part].keys_of_client for part in parts):
            failure.unfit = True
        self._failed(leg, failure)

    def _joins_equal(self, leg: Leg, outgoing: Outgoing) -> bool:
        """Take part in an equal call's answer, if there is one; what failed is asked for again."""
        equal = self._under.equal(leg, outgoing)
        if equal is None:
            return False
        waiting = equal if isinstance(equal, list) else self._under.flying.get(equal)
        if waiting is not None:
            waiting.append(leg)
        elif not isinstance(equal, list) and leg.is_given_by(equal):
            self._answered(leg, equal)
        else:
            return False
        return True

    def _at_gate(self, leg: Leg, gate: Gate, outgoing: Outgoing) -> None:
        """Make the call now, or when another one of this upstream has ended."""
        equal: list[Leg] = []

        def later() -> None:
            self._under.waits_no_more(leg)
            leg.gate = gate
            self._make(leg, outgoing, equal)

        if gate.enter(later):
            leg.gate = gate
            self._make(leg, outgoing)
        else:
            self._under.waits(leg, gate, later)
            self._under.may_be_joined(leg.call, outgoing, equal)
            self._waking.watch()

    def _make(self, leg: Leg, outgoing: Outgoing, equal: Sequence[Leg] = ()) -> None:
        call = leg.call
        left = self._waking.left()
        if left < _LEAST:
            self._no_time_for(leg)
            return
        seconds = left if call.timeout is None else min(call.timeout, left)
        if outgoing.method not in SAFE:
            self._freshness.unsafe()
        leg.part.made += 1
        asked = self._cached(
            call.upstream,
            outgoing.method,
            outgoing.target,
            headers=outgoing.headers,
            body=outgoing.body,
            timeout=seconds,
            max_bytes=self._budget.most(call.max_bytes),
            room=self._budget.room,
            identity=outgoing.identity,
            stale_if_error=call.stale,
            about=self._telling.about,
            alike=call.path.source,
            usable=call.is_read,
            max_age=self._telling.max_age,
        )
        promptly = getattr(asked, "promptly", None)
        made: Any = asyncio.ensure_future(asked) if promptly is None else asked
        self._under.flying[made] = [leg, *equal]
        self._under.may_be_joined(call, outgoing, made)
        if promptly is not None:
            promptly(self._came)
        else:
            made.add_done_callback(self._came)
            self._waking.watch()

    def _no_time_for(self, leg: Leg) -> None:
        """Begin nothing at the deadline: it may change something, and nobody would know."""
        leg.leave_gate()
        self._waking.time_is_over()

    def _take(self, made: Outstanding) -> None:
        legs = self._under.flying.pop(made)
        first = legs[0]
        first.leave_gate()
        fault = made.exception()
        answer = None if fault is not None else made.result()
        self._counts.one(first.call.upstream, outcome_of(fault, answer))
        try:
            self._budget.took(len(answer.body) if answer is not None else 0)
        except Unusable as failure:
            for leg in legs:
                self._failed(leg, failure)
            return
        for leg in legs:
            self._answered(leg, made)

    def _answered(self, leg: Leg, made: Outstanding) -> None:
        fault = made.exception()
        if isinstance(fault, UpstreamFault):
            self._failed(leg, Unusable(fault.reason))
            return
        answer = made.result()
        leg.part.came(answer.source)
        try:
            self._came_of(leg, leg.call.kind.read(answer))
        except Unusable as failure:
            if failure.status == _NOT_FOUND and leg.keys is not None and leg.call.batch is None:
                self._freshness.took(answer)  # for as long as it says that
                self._leg_done(leg.part)  # of this key there is nothing
            else:
                self._failed(leg, failure)
        except NotJoinable:
            self._failed(leg, Unusable("shape"))
        else:
            self._freshness.took(answer)

    def _came_of(self, leg: Leg, value: Any) -> None:
        state, call = leg.part, leg.call
        if leg.keys is None:
            if call is not state.call:
                state.outcome = "fallback"
                self.missing.add(state.call.part)
            self._done(state, value)
        else:
            state.gather(leg.keys, value)
            self._leg_done(state)

    def _leg_done(self, state: PartState) -> None:
        state.open -= 1
        if not state.open:
            self._each_done(state)

    # ---- failures

    def _without_value(self, leg: Leg, error: NoValue) -> None:
        """A path without a value fails its call, unless that is of a part that was left out.

        What stands in for a call that failed is never left out: the failure stays one.
        """
        first = leg.part.failure
        if first is not None:
            self._failed(leg, first)
        elif error.names & self._left_out:
            self._leave_out(leg.part)
        elif leg.leads_nowhere(error):
            self._leg_done(leg.part)
        else:
            self._failed(leg, without(error, of_client=leg.call.keys_of_client))

    def _failed(self, leg: Leg, failure: Unusable) -> None:
        """One call failed; another one may stand in, or what the file says.

        Raises:
            CallFailed: nothing does.
        """
        state, call = leg.part, leg.part.call
        state.outcome, state.failed = failure.reason, True
        if leg.call is call and call.fallback is not None and not self._waking.late:
            state.failure = failure
            fallback = Leg(state, call.fallback, None)
            fallback.ready = self._filled(fallback)
            if fallback.ready is not None:
                self._queue.append(fallback)
            return
        if call.required:
            state.note(self._request)
            raise CallFailed(call, failure)
        if leg.keys is not None:
            self._leg_done(state)
            return
        self.missing.add(call.part)
        self._done(state, call.default)

    def _too_late(self) -> None:
        """At the deadline defaults stand in for what isn't there.

        Raises:
            CallFailed: a required part is missing.
        """
        for part in self._shape.calls:
            if part in self.parts:
                continue
            call = self._plan.calls[part]
            state = self._states.setdefault(part, PartState(call, None))
            state.outcome = "deadline"
            if call.required:
                state.note(self._request)
                raise CallFailed(call, Unusable("deadline"))
            self.missing.add(part)
            state.failed = True
            self.parts[part] = call.default if state.keys is None else state.whole()
            state.note(self._request)

    def _give_up(self) -> None:
        """Nobody waits any more: what is under way is cancelled, there too."""
        for upstream in self._under.given_up(self._came):
            self._counts.one(upstream, "cancelled")
