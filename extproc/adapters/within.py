"""Waiting for one future with an end: what `asyncio.wait` does, for less where it is one."""

from __future__ import annotations

import asyncio
from typing import Any


async def done_within(future: asyncio.Future[Any], seconds: float) -> bool:
    """Wait until a future is done, or for so many seconds; it isn't cancelled.

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

    timer = loop.call_later(seconds, end)
    future.add_done_callback(end)
    try:
        await over
    finally:
        timer.cancel()
        future.remove_done_callback(end)
    return future.done()
