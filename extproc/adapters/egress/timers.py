"""Many timeouts behind one timer of the event loop: nearly all end before they are due."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Entry = list[Any]  # moment, number, what to do or None


class Timers:
    """Calls back at a moment unless told not to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[Entry] = []
        self._numbers = count()
        self._armed: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def add(self, seconds: float, due: Callable[[], None]) -> Entry:
        """Call `due` in so many seconds, unless the entry is dropped."""
        when = self._loop.time() + seconds
        entry: Entry = [when, next(self._numbers), due]
        heappush(self._heap, entry)
        if self._armed is None or when < self._armed_for:
            self._arm(when)
        return entry

    @staticmethod
    def drop(entry: Entry) -> None:
        """Forget an entry; it holds on to nothing from here."""
        entry[2] = None

    def close(self) -> None:
        """Forget every entry."""
        self._heap.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._ring)
        self._armed_for = when

    def _ring(self) -> None:
        self._armed = None
        now = self._loop.time()
        heap = self._heap
        while heap and (heap[0][2] is None or heap[0][0] <= now):
            due = heappop(heap)[2]
            if due is not None:
                due()
        if heap and self._armed is None:
            self._arm(heap[0][0])
