"""What plugins ask for from threads is done on the worker's loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from extproc.adapters.from_threads import reachable
from extproc.core.answered import Answered
from extproc.core.headers import Headers
from extproc.testing import Trial


async def test_what_waits_waits_on_the_workers_loop() -> None:
    """A call and work in the background, for a hook in a thread that has a loop of its own."""
    trial, here = Trial(), asyncio.get_running_loop()
    asked: list[asyncio.AbstractEventLoop] = []

    async def call(_upstream: str) -> Answered:
        asked.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return Answered(200, Headers(), b"called")

    async def work() -> None:
        asked.append(asyncio.get_running_loop())

    services = reachable(replace(trial.services, call=call), here)

    async def hook() -> bytes:
        services.store.set("k", b"stored and ", 60)
        services.spawn(work())
        found = services.store.get("k")
        assert isinstance(found, bytes)
        return found + (await services.call("u")).body

    assert await asyncio.to_thread(lambda: asyncio.run(hook())) == b"stored and called"
    await trial.settled()
    assert asked == [here, here]
