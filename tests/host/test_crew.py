"""Who is asked, and what becomes of a worker that doesn't do what it must."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from extproc.adapters import processes
from extproc.adapters.control import Asker, answer
from extproc.adapters.siblings import Siblings
from extproc.host import crew as crews
from extproc.host.crew import Crew
from extproc.testing import Events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    """Return one whose only worker is a process that does nothing."""
    made = Crew(tmp_path / "gateway.yaml", tmp_path, ["unix:/none"], "unix:/none", Events())
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    [place] = made.places
    place.process = await processes.start(command, environment={})
    yield made
    await processes.stop(place.process, 0)


async def test_one_that_starts_is_told_of_revocations(crew: Crew) -> None:
    """It may serve before it says so, with what it read before."""
    ours, theirs = socket.socketpair()
    [place] = crew.places
    place.asker = await Asker.open(ours, lambda _told: None)
    asked: list[str] = []

    async def handle(question: str, _details: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"ok": True}

    answering = asyncio.ensure_future(answer(theirs.detach(), handle, Siblings()))
    await crew.flush()
    await crew.follow_revocations()
    assert asked == ["revocations"]
    assert place.starts
    place.asker.close()
    async with asyncio.timeout(10):
        await answering


async def test_who_stood_still_as_well_asks_again(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that was suspended, or has no time for anybody, the answer is there unread."""
    monkeypatch.setattr(crews, "_SILENT_FOR", 0.2)
    monkeypatch.setattr(crews, "_PING_EVERY", 0.1)
    ours, theirs = socket.socketpair()
    [place] = crew.places
    place.asker = await Asker.open(ours, lambda _told: None)
    process = place.process
    assert process is not None
    asked: list[str] = []

    async def handle(question: str, _details: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        if len(asked) == 1:
            threading.Event().wait(0.5)  # holds up everything in this process
        else:
            process.terminate()
        return {"ok": True, "keys_missing": []}

    answering = asyncio.ensure_future(answer(theirs.detach(), handle, Siblings()))
    await crew._until_gone(place)
    assert asked == ["ping", "ping"]
    assert process.returncode == -15
    async with asyncio.timeout(10):
        await answering


async def test_a_silent_one_is_ended(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could go on, with a credential that is revoked."""
    monkeypatch.setattr(crews, "_SILENT_FOR", 0.1)
    ours, theirs = socket.socketpair()
    [place] = crew.places
    place.asker, place.ready = await Asker.open(ours, lambda _told: None), True
    await crew.follow_revocations()
    assert place.process is not None
    assert place.process.returncode == -9
    place.asker.close()
    theirs.close()
    await asyncio.sleep(0)
