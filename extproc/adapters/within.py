"""Waiting for one thing: with an end, for less than `asyncio.wait` takes, or as a coroutine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.adapters.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def done_within(
    future: asyncio.Future[Any], seconds: float, timers: Timers | None = None
) -> bool:
    """Wait until a future is done, or for so many seconds; it isn't cancelled.

    Args:
        future: what is waited for.
        seconds: how long at most.
        timers: keep the time, where many wait.

    Returns:
        Whether it is done.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_future: asyncio.Future[Any] | None = None) -> None:
        if not over.done():
            over.set_result(None)

    entry = handle = None
    if timers is not None:
        entry = timers.add(seconds, end)
    else:
        handle = loop.call_later(seconds, end)
    future.add_done_callback(end)
    try:
        await over
    finally:
        if entry is not None:
            Timers.drop(entry)
        if handle is not None:
            handle.cancel()
        future.remove_done_callback(end)
    return future.done()


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """Await what may be no coroutine, for what takes nothing but one."""
    return await awaitable
