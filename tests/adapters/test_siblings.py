"""What workers tell each other by way of the supervisor."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from extproc.adapters import control
from extproc.adapters.control import Asker
from extproc.adapters.siblings import Siblings
from extproc.core.replicas import SharedMark

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def _uri(name: str) -> SharedMark:
    return SharedMark("uri", name, soft=False)


def _connected(
    siblings: Siblings, work: Callable[[asyncio.Queue[Any], Asker], Coroutine[Any, Any, None]]
) -> None:
    """Do something while a worker is connected; the queue is what it tells, line by line."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        told: asyncio.Queue[Any] = asyncio.Queue()
        asker = await Asker.open(ours, lambda said: told.put_nowait(said["marks"]))

        async def handle(question: str, details: dict[str, Any]) -> dict[str, Any]:
            return {"question": question} | details

        answering = asyncio.ensure_future(control.answer(theirs.detach(), handle, siblings))
        try:
            async with asyncio.timeout(5):
                await work(told, asker)
        finally:
            asker.close()
            await answering
        assert told.empty()

    asyncio.run(run())


def test_marks_come_together_and_in_order() -> None:
    """What was made before there was a way, then what is made at one time, in one line each."""
    siblings = Siblings()
    siblings.tell([_uri("before")])

    async def work(told: asyncio.Queue[Any], asker: Asker) -> None:
        assert await told.get() == [["uri", "before", False]]
        siblings.tell([_uri("a"), SharedMark("tag", "b", soft=True)])
        siblings.tell([_uri("\xe9")])
        assert await asker.ask("ping", 5, of="any") == {"question": "ping", "of": "any"}
        assert await told.get() == [["uri", "a", False], ["tag", "b", True], ["uri", "\xe9", False]]
        await asyncio.to_thread(siblings.tell, [_uri("of a thread")])
        assert await told.get() == [["uri", "of a thread", False]]

    _connected(siblings, work)


@pytest.mark.parametrize("marks", [[_uri("a")] * 10_001, [_uri("a" * 2_000_000)], [_uri("\ud800")]])
def test_what_is_too_much_is_told_as_all(marks: list[SharedMark]) -> None:
    """Too many, too long, or what can't be written."""
    siblings = Siblings()

    async def work(told: asyncio.Queue[Any], _asker: Asker) -> None:
        siblings.tell(marks)
        assert await told.get() == [["all", "", False]]

    _connected(siblings, work)
