"""Questions of the supervisor: each has an answer, also one that a worker fails at."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from extproc.adapters.control import Asker, WorkerGone, answer
from extproc.adapters.siblings import Siblings


async def test_a_failure_is_an_answer() -> None:
    """It isn't taken for silence, and the next question is answered."""
    ours, theirs = socket.socketpair()

    async def handle(question: str, details: dict[str, Any]) -> dict[str, Any]:
        if question == "revocations":
            raise OSError(24, "Too many open files")
        return {"ok": True, **details}

    answering = asyncio.ensure_future(answer(theirs.detach(), handle, Siblings()))
    asker = await Asker.open(ours, lambda _told: None)
    failed = await asker.ask("revocations", 10)
    assert not failed["ok"]
    assert "Too many open files" in failed["error"]
    assert await asker.ask("ping", 10, more=1) == {"ok": True, "more": 1}
    asker.close()
    async with asyncio.timeout(10):
        await answering


async def test_a_worker_that_is_gone() -> None:
    """Whoever waits for an answer is told."""
    ours, theirs = socket.socketpair()
    asker = await Asker.open(ours, lambda _told: None)
    asking = asyncio.ensure_future(asker.ask("ping", 10))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(WorkerGone):
        await asking
    asker.close()
