"""The calls of one exchange that have begun, and those that wait for their turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.aggregation.calls import SAFE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from extproc.aggregation.budget import Gate
    from extproc.aggregation.calls import Call
    from extproc.aggregation.legs import Leg
    from extproc.aggregation.requests import Outgoing
    from extproc.core.answered import Outstanding


def place_of(call: Call, outgoing: Outgoing) -> str:
    """Return where a call goes: of those that go to one place some may be equal."""
    return call.upstream + outgoing.target


class UnderWay:
    """What has begun, and what waits before an upstream's gate.

    Attributes:
        flying: the calls that were made, each with the legs that wait for its answer.
    """

    __slots__ = ("_gated", "_same", "flying")

    def __init__(self) -> None:
        self.flying: dict[Outstanding, list[Leg]] = {}
        self._gated: dict[Leg, tuple[Gate, Callable[[], None]]] = {}
        # By where they go: answered or under way, or the legs that wait with one for its turn.
        self._same: dict[str, tuple[Outgoing, Call, Outstanding | list[Leg]]] = {}

    def equal(self, leg: Leg, outgoing: Outgoing) -> Outstanding | list[Leg] | None:
        """Return an equal call: one that was made, or the legs with which one waits.

        A call has its own timeout and bound; one that differs in these isn't equal.
        """
        if outgoing.method not in SAFE:
            return None
        known = self._same.get(place_of(leg.call, outgoing))
        if (
            known is None
            or not known[0].says_the_same(outgoing)
            or not known[1].ends_like(leg.call)
        ):
            return None
        return known[2]

    def waits(self, leg: Leg, gate: Gate, later: Callable[[], None]) -> None:
        """Take note of one that waits before a gate until `later` is called."""
        self._gated[leg] = (gate, later)

    def waits_no_more(self, leg: Leg) -> None:
        """It is its turn."""
        del self._gated[leg]

    def may_be_joined(self, call: Call, outgoing: Outgoing, by: Outstanding | list[Leg]) -> None:
        """Let equal ones find a call that was made, or the list to wait in with it."""
        if outgoing.method in SAFE:
            self._same[place_of(call, outgoing)] = (outgoing, call, by)

    def given_up(self, came: Callable[[Outstanding], object]) -> Iterator[str]:
        """Give everything up, here and at the upstreams, since nobody waits any more.

        Args:
            came: what was told of answers.

        Yields:
            The upstream of each call that was under way.
        """
        for leg, (gate, later) in self._gated.items():
            gate.give_up(later)
            leg.gate = None
        self._gated.clear()
        for made, legs in self.flying.items():
            if isinstance(made, asyncio.Future):
                made.remove_done_callback(came)
                made.cancel()
                made.add_done_callback(_seen)
            else:
                made.cancel()
            legs[0].leave_gate()
            yield legs[0].call.upstream
        self.flying.clear()


def _seen(future: asyncio.Future[Any]) -> None:
    """Look at a failure that nobody waits for, so that asyncio doesn't report it."""
    if not future.cancelled():
        future.exception()
