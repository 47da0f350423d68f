"""Many timeouts behind one timer of the event loop: nearly all end before they are due.

Moments are gathered into ticks, so an entry costs an append and being dropped costs nothing.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Entry = list[Any]  # what to do, or None; at which tick
_TICKS = 200.0  # in a second: how late a timeout may be
_NEAR = 2  # ticks


class Timers:
    """Calls back at a moment, or up to 5 ms later, unless told not to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks: dict[int, list[Entry]] = {}
        self._order: list[int] = []
        self._armed: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def add(self, seconds: float, due: Callable[[], None]) -> Entry:
        """Call `due` in so many seconds, unless the entry is dropped."""
        tick = int((self._loop.time() + seconds) * _TICKS) + 1
        entry: Entry = [due, tick]
        entries = self._ticks.get(tick)
        if entries is not None:
            entries.append(entry)
            return entry
        self._ticks[tick] = [entry]
        heappush(self._order, tick)
        if self._armed is None or tick < self._armed_for:
            self._arm(tick)
        return entry

    @staticmethod
    def drop(entry: Entry) -> None:
        """Forget an entry; it holds on to nothing from here."""
        entry[0] = None

    @staticmethod
    def is_near(entry: Entry, now: float) -> bool:
        """Say whether an entry is due, or will be in some milliseconds."""
        due: int = entry[1]
        return now * _TICKS >= due - _NEAR

    def close(self) -> None:
        """Forget every entry."""
        self._ticks.clear()
        self._order.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _arm(self, tick: int) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(tick / _TICKS, self._ring)
        self._armed_for = tick

    def _ring(self) -> None:
        self._armed = None
        now = self._loop.time() * _TICKS
        while self._order and self._order[0] <= now:
            for entry in self._ticks.pop(heappop(self._order)):
                if entry[0] is not None:
                    entry[0]()
        if self._order and self._armed is None:
            self._arm(self._order[0])
