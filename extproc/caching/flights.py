"""Collapse: of several requests for the same, one goes to the upstream and the others wait.

A flight ends when its answer is stored, as soon as it is known that it won't be, or when the
request that made it ends in whatever way; all who wait look again then. Whoever can't use what came
goes to the upstream without waiting once more: nobody queues. Only where nothing came, as the
client went away, is it the turn of another one. What turned out not to be for others is remembered,
so that nobody waits for it a second time; where that was so with several of a kind in a row,
nobody waits for another one of it either, since the wait would come on top of the call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from extproc.caching.keys import size

if TYPE_CHECKING:
    from collections.abc import Hashable

_MOST_PASSES = 10_000
_BARREN = 3  # answers of a kind, in a row, that were for nobody else
_MOST_KINDS = 10_000  # they are the gateway file's, so there are hardly that many
_LARGEST_PASSES = 8 << 20  # bytes of all their keys' texts


class Flight:
    """One request on its way to the upstream."""

    __slots__ = ("_waiters", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self._waiters: list[asyncio.Future[bool]] = []

    async def is_lost(self, seconds: float) -> bool:
        """Wait for its end, for so long at most; say whether it ended without an answer."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            return False

    def land(self, *, lost: bool) -> None:
        """Let all who wait look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(lost)


class Flights:
    """Every flight of one worker, and what isn't worth waiting for."""

    def __init__(
        self, most_passes: int = _MOST_PASSES, largest_passes: int = _LARGEST_PASSES
    ) -> None:
        self._flights: dict[Hashable, Flight] = {}
        self._passes: OrderedDict[Hashable, bool] = OrderedDict()
        self._most_passes, self._largest_passes = most_passes, largest_passes
        self._size = 0  # of all that is remembered
        self._barren: dict[Hashable, int] = {}

    def passes(self, key: Hashable) -> bool:
        """Say whether the last answer turned out not to be for others (hit-for-miss)."""
        return key in self._passes

    def passes_bare(self, key: Hashable) -> bool:
        """Say whether it does, and nothing is stored that could be validated."""
        return self._passes.get(key) is False

    def joined(self, key: Hashable) -> Flight | None:
        """Return the flight that is under way."""
        return self._flights.get(key)

    def begin(self, key: Hashable) -> Flight:
        """Begin one; there must be none."""
        flight = self._flights[key] = Flight(key)
        return flight

    def end(self, flight: Flight, *, lost: bool = False) -> None:
        """End it, whatever became of it; a second time is no error."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        flight.land(lost=lost)

    def barren(self, kind: Hashable) -> bool:
        """Say whether answers of a kind are hardly ever for others."""
        return kind is not None and self._barren.get(kind, 0) >= _BARREN

    def unshared(self, key: Hashable, *, stored: bool = False, kind: Hashable = None) -> None:
        """Remember that what comes for a key is for nobody else, until something is.

        Args:
            key: of the flight.
            stored: it is stored all the same, and must be validated each time.
            kind: what it has in common with others; None for nothing.
        """
        if key not in self._passes:
            self._size += size(key)
            if kind is not None and len(self._barren) < _MOST_KINDS:
                self._barren[kind] = self._barren.get(kind, 0) + 1
        self._passes[key] = stored
        self._passes.move_to_end(key)
        while len(self._passes) > self._most_passes or self._size > self._largest_passes:
            self._size -= size(self._passes.popitem(last=False)[0])

    def shared(self, key: Hashable, *, kind: Hashable = None) -> None:
        """Something for this key, one of a kind, was stored that others can use."""
        self._barren.pop(kind, None)
        if self._passes.pop(key, None) is not None:
            self._size -= size(key)
