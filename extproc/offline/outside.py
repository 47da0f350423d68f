"""What plugins find outside when nothing outside may be asked: a wish is noted and refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.adapters.memory_store import MemoryStore
from extproc.core.errors import UpstreamFault
from extproc.core.ports import Services, uncached

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from extproc.core.answered import Answered
    from extproc.core.ports import Clock, Log, Observer
    from extproc.core.room import Room
    from extproc.offline.trace import Trace


class Nothing:
    """A caller and fetcher that reach nobody."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    async def call(
        self,
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,  # noqa: ASYNC109 - the port's
        max_bytes: int | None = None,
        room: Room | None = None,
        host: str = "",
    ) -> Answered:
        """Note a call and fail."""
        del headers, body, timeout, max_bytes, room, host
        self._trace.notes.append(f"would call {method} {upstream} {target}")
        raise UpstreamFault("connect", "nothing is called offline")

    async def fetch(
        self,
        url: str,
        *,
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        shared_for: float = 0.0,
        sound: Callable[[bytes], object] | None = None,
    ) -> Answered:
        """Note a fetch and fail."""
        del seconds, max_bytes, headers, body, shared_for, sound
        self._trace.notes.append(f"would call {method} {url}")
        raise UpstreamFault("connect", "nothing is fetched offline")

    def kept(self, url: str) -> Answered | None:
        """Keep nothing."""
        del url
        return None


class Background:
    """Work that plugins start beside requests; ended with the gate."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        """Start some work."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def services(
    trace: Trace, clock: Clock, observer: Observer, log: Log, background: Background
) -> Services:
    """Return what plugins get in `on_start`."""
    nothing = Nothing(trace)
    return Services(
        call=nothing.call,
        cached=uncached(nothing.call),
        store=MemoryStore(clock),
        clock=clock,
        log=log,
        metrics=observer,
        fetch=nothing,
        spawn=background.spawn,
    )
