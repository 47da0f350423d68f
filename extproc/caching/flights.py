"""Collapse: of several requests for the same, one goes to the upstream and the others wait.

A flight ends when its answer is stored, as soon as it is known that it won't be, or when the
request that made it ends in whatever way; all who wait look again then. What turned out not to be
storable is remembered, so that nobody waits for it a second time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

_MOST_PASSES = 10_000


class Flight:
    """One request on its way to the upstream."""

    __slots__ = ("_waiters", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self._waiters: list[asyncio.Future[None]] = []

    async def landed(self, seconds: float) -> bool:
        """Wait for its end; say whether it came in time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, seconds)
        except TimeoutError:
            return False
        return True

    def land(self) -> None:
        """Let all who wait look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Flights:
    """Every flight of one worker, and what isn't worth waiting for."""

    def __init__(self, most_passes: int = _MOST_PASSES) -> None:
        self._flights: dict[Hashable, Flight] = {}
        self._passes: OrderedDict[Hashable, None] = OrderedDict()
        self._most_passes = most_passes

    def passes(self, key: Hashable) -> bool:
        """Say whether the last answer turned out not to be storable (hit-for-miss)."""
        return key in self._passes

    def joined(self, key: Hashable) -> Flight | None:
        """Return the flight that is under way."""
        return self._flights.get(key)

    def begin(self, key: Hashable) -> Flight:
        """Begin one; there must be none."""
        flight = self._flights[key] = Flight(key)
        return flight

    def end(self, flight: Flight) -> None:
        """End it, whatever became of it; a second time is no error."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        flight.land()

    def unstorable(self, key: Hashable) -> None:
        """Remember that what comes for a key can't be shared, until something can."""
        self._passes[key] = None
        self._passes.move_to_end(key)
        if len(self._passes) > self._most_passes:
            self._passes.popitem(last=False)

    def storable(self, key: Hashable) -> None:
        """Something for this key was stored."""
        self._passes.pop(key, None)
