"""Work beside the serving: a failure is said and the work begun again; an end is an end."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import pytest

from extproc.adapters import beside
from extproc.adapters.system import JsonLog
from extproc.testing import Events


async def test_it_is_begun_again() -> None:
    """Each failure is said; what returns isn't begun again."""
    log, beginnings = Events(), 0

    async def watching() -> None:
        nonlocal beginnings
        beginnings += 1
        if beginnings < 3:
            raise OSError(28, "No space left on device")

    async with asyncio.timeout(10):
        await beside.begin(watching, log)
    assert beginnings == 3
    assert len(log.events) == 2
    assert "No space left" in str(log.events[0])
    assert "watching" in str(log.events[0])


async def test_the_end_waits() -> None:
    """Until the work has cleaned up; nothing is said."""
    log, begun, cleaned = Events(), asyncio.Event(), False

    async def following() -> None:
        nonlocal cleaned
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    task = beside.begin(following, log)
    async with asyncio.timeout(10):
        await begun.wait()
        await beside.end(task)
    assert cleaned
    assert log.events == []
    with pytest.raises(asyncio.CancelledError):
        task.result()


async def test_the_end_comes_though_it_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that something in between swallowed is repeated."""
    monkeypatch.setattr(beside, "_CANCELLED_AGAIN_AFTER", 0.01)
    log, begun, missed = Events(), asyncio.Event(), 0

    async def asking() -> None:
        nonlocal missed
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                missed += 1
                if missed == 2:
                    raise

    task = beside.begin(asking, log)
    async with asyncio.timeout(10):
        await begun.wait()
        await beside.end(task)
    assert missed == 2
    assert task.cancelled()
    assert log.events == []


@pytest.mark.parametrize("closed", [True, False])
async def test_a_log_that_nobody_reads_ends_no_work(*, closed: bool) -> None:
    """What failed is begun again, though it can't be said."""
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    if closed:
        stream.close()
    times: list[int] = []

    async def fails() -> None:
        times.append(1)
        raise ZeroDivisionError

    work = beside.begin(fails, JsonLog("test", stream))
    async with asyncio.timeout(10):
        while len(times) < 2:  # noqa: ASYNC110 - the work begins by itself
            await asyncio.sleep(0.01)
    await beside.end(work)
    with suppress(OSError):
        stream.close()
