"""Load on a gateway: closed loops of real requests, and what became of each."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Result:
    """What a load did.

    Attributes:
        statuses: how many of each; 0 for a request without an answer.
        times: seconds of each answered request, with the moment it began.
        versions: values of one header that answers carried, if asked for.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    times: list[tuple[float, float]] = field(default_factory=list)
    bodies: Counter[bytes] = field(default_factory=Counter)

    def median(self, after: float = 0.0) -> float:
        """Return the median time of requests that began so long after the first, seconds."""
        first = min(began for began, _ in self.times)
        return statistics.median(took for began, took in self.times if began >= first + after)


async def load(
    url: str,
    stop: asyncio.Event,
    *,
    loops: int = 4,
    pause: float = 0.0,
    keep_bodies: bool = False,
) -> Result:
    """Ask again and again until told to stop; each loop on a connection of its own.

    Args:
        url: what to ask.
        stop: ends the loops; each finishes its request.
        loops: how many at once.
        pause: seconds between a loop's requests.
        keep_bodies: count answers by their body.
    """
    result = Result()
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def one() -> None:
            began = time.monotonic()
            try:
                async with session.get(url) as response:
                    body = await response.read()
                    result.statuses[response.status] += 1
                    if keep_bodies:
                        result.bodies[body] += 1
            except (aiohttp.ClientError, TimeoutError):
                result.statuses[0] += 1
            result.times.append((began, time.monotonic() - began))

        async def loop() -> None:
            while not stop.is_set():
                await one()
                if pause:
                    await asyncio.sleep(pause)

        await asyncio.gather(*(loop() for _ in range(loops)))
    return result


async def during(url: str, doing: Callable[[], None], *, loops: int) -> Result:
    """Load a URL while something happens in a thread; bodies are counted."""
    stop = asyncio.Event()
    loading = asyncio.ensure_future(load(url, stop, loops=loops, keep_bodies=True))
    try:
        await asyncio.to_thread(doing)
    finally:
        stop.set()
    return await loading
