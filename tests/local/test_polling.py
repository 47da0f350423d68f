"""Busy polling: when the loop is kept awake, and when it isn't."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.local.polling import BusyPoll
from extproc.testing import ManualClock
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 0.5


class Turns:
    """An event loop of which a test takes the turns."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Keep it for the next turn."""
        self.soon.append(callback)

    def turn(self) -> None:
        """Call back what was asked for."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


def made() -> tuple[BusyPoll, Turns, ManualClock]:
    """Return one that looks for half a second."""
    turns, clock = Turns(), ManualClock()
    return BusyPoll(turns, clock.monotonic, LONGEST), turns, clock  # type: ignore[arg-type]


def closely(poll: BusyPoll, clock: ManualClock, exchanges: int = 10) -> None:
    """Have exchanges follow each other."""
    for _ in range(exchanges):
        clock.move(LONGEST / 2)
        poll.came(clock.monotonic(), 1)
        poll.came(clock.monotonic(), 0)  # its end


def test_one_that_closely_follows_the_other_is_looked_for_as_long_as_that_is_likely() -> None:
    """Until then the loop takes turn after turn; then it sleeps."""
    poll, turns, clock = made()
    closely(poll, clock, 2)
    assert not poll.polling
    closely(poll, clock)
    assert poll.polling
    turns.turn()
    assert len(turns.soon) == 1
    clock.move(LONGEST)
    turns.turn()
    assert not poll.polling
    assert not turns.soon


def test_exchanges_far_apart_or_many_at_once_cost_nothing() -> None:
    """What was likely ends to be so after a few."""
    poll, turns, clock = made()
    closely(poll, clock)
    poll.came(clock.monotonic(), 2)
    turns.turn()
    assert not poll.polling
    closely(poll, clock)
    assert poll.polling
    for _ in range(3):
        clock.move(LONGEST * 2)
        turns.turn()
        poll.came(clock.monotonic(), 1)
    assert not poll.polling


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3), st.booleans())))
def test_it_never_looks_longer_than_it_may(reads: list[tuple[float, int, bool]]) -> None:
    """Whatever comes: at most one callback waits, and none once the time is over."""
    poll, turns, clock = made()
    for gap, under_way, turned in reads:
        clock.move(gap)
        poll.came(clock.monotonic(), under_way)
        if turned:
            turns.turn()
        assert len(turns.soon) == poll.polling
    clock.move(LONGEST)
    turns.turn()
    assert not poll.polling
    assert not turns.soon


async def test_others_go_on_meanwhile() -> None:
    """Timers and tasks of the loop aren't held up."""
    loop = asyncio.get_running_loop()
    poll = BusyPoll(loop, loop.time, 60.0)
    for _ in range(10):
        poll.came(loop.time(), 1)
    assert poll.polling
    await asyncio.sleep(0.01)
    poll.came(loop.time(), 2)
    await until_async(lambda: not poll.polling)
