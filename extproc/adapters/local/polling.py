"""Busy polling: while one exchange closely follows the other, the worker doesn't fall asleep.

To be woken costs a process more than an exchange does, and more still in a virtual machine. Where a
client waits for each answer before it asks again, that is most of what a gateway adds to the time.
So the worker looks for the next exchange for a while, without sleeping, if the last ones came that
soon. It costs up to a core for as long as that goes on; where several exchanges are under way at
once, or they come far apart, it costs nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_GAINED, _LOST = 1 / 8, 1 / 4  # of the way to certainty, with each exchange
_LIKELY = 0.5


class BusyPoll:
    """Keeps the event loop of one worker awake between exchanges.

    Args:
        loop: the worker's.
        clock: seconds, monotonic.
        longest: seconds for which the next exchange is looked for.

    Attributes:
        polling: the loop doesn't sleep.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], longest: float
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._longest = longest
        self._last = -longest
        self._likely = 0.0  # that the next exchange comes as soon
        self._until = 0.0
        self.polling = False

    def came(self, now: float, under_way: int) -> None:
        """Take note of a read.

        Args:
            now: the moment.
            under_way: how many exchanges are open on its connection; none where it only ended some.
        """
        if not under_way:
            return
        soon = now - self._last <= self._longest
        self._last = now
        self._likely += (1.0 - self._likely) * _GAINED if soon else -self._likely * _LOST
        if under_way > 1 or self._likely < _LIKELY:
            self._until = now
            return
        self._until = now + self._longest
        if not self.polling:
            self.polling = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Let the loop look once more without waiting, behind whoever else wants this core."""
        if self._clock() < self._until:
            os.sched_yield()
            self._loop.call_soon(self._look)
        else:
            self.polling = False
