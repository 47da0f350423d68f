"""Work that goes on beside the serving: what ends it is said aloud, and it begins again.

A task that nobody awaits dies in silence, and what it watched over is no longer watched.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from extproc.adapters.processes import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from extproc.core.ports import Log

_CANCELLED_AGAIN_AFTER = 1.0  # seconds; cleaning up takes less


def begin(work: Callable[[], Coroutine[Any, Any, None]], log: Log) -> asyncio.Task[None]:
    """Begin work; where it fails it is begun again after a pause, where it returns it is over.

    Args:
        work: makes the coroutine, once for each beginning.
        log: where its failures go.

    Returns:
        What `end` takes.
    """
    return asyncio.ensure_future(_kept(work, log))


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel work and wait until it has cleaned up.

    It is cancelled again after a while: a library in between may have lost the first time, as
    Python 3.11's `asyncio.wait_for` does, and the work would go on for ever.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCELLED_AGAIN_AFTER)


async def _kept(work: Callable[[], Coroutine[Any, Any, None]], log: Log) -> None:
    backoff = Backoff()
    while True:
        started = time.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - any end but the wanted one is a failure
            name = getattr(work, "__qualname__", repr(work))
            log.error("work failed and is begun again", work=name, error=repr(error))
            await asyncio.sleep(backoff.next(time.monotonic() - started))
        else:
            return
