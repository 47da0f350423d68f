"""What wakes an exchange that waits for its calls: an answer, or its deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Waking:
    """Lets one coroutine wait until there is something to do.

    Args:
        loop: that runs it.
        ends: the deadline, on the clock of `monotonic`.
        monotonic: tells the time, in seconds.

    Attributes:
        late: whether the deadline has passed.
    """

    __slots__ = ("_ends", "_loop", "_monotonic", "_timer", "_waiting", "late")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ends: float, monotonic: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._ends = ends
        self._monotonic = monotonic
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.late = False

    async def wait(self) -> None:
        """Wait until it is woken."""
        self._waiting = self._loop.create_future()
        await self._waiting

    def wake(self) -> None:
        """Go on, if it waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def time_is_over(self) -> None:
        """Wake it for the last time."""
        self.late = True
        self.wake()

    def left(self) -> float:
        """Return how long it is to the deadline, seconds; negative when it has passed."""
        return self._ends - self._monotonic()

    def watch(self) -> None:
        """Watch the deadline where what is waited for doesn't: a plain call does."""
        if self._timer is None:
            self._timer = self._loop.call_later(max(self.left(), 0.0), self.time_is_over)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
