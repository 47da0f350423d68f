"""Questions and answers between supervisor and worker: one JSON line each, over a socket pair.

The supervisor asks, the worker answers; what is to reach the other workers it tells unasked. When
the supervisor is gone the socket ends, and so does the worker.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from extproc.adapters.siblings import Siblings

_LONGEST_LINE = 16 << 20


class WorkerGone(ConnectionError):
    """The other end closed."""


class Asker:
    """The supervisor's end.

    Args:
        reader: of the socket.
        writer: of the socket.
        told: takes what the worker tells unasked.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        told: Callable[[dict[str, Any]], None],
    ) -> None:
        self._told = told
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, end: socket.socket, told: Callable[[dict[str, Any]], None]) -> Asker:
        """Take one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_LONGEST_LINE), told)

    async def ask(self, question: str, seconds: float, **details: Any) -> dict[str, Any]:
        """Ask and wait for the answer.

        Raises:
            WorkerGone: the worker ended.
            TimeoutError: it didn't answer in time.
        """
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(orjson.dumps({"ask": question, "number": number} | details) + b"\n")
            async with asyncio.timeout(seconds):
                return await future
        except ConnectionError as error:
            raise WorkerGone(question) from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = orjson.loads(line)
                if "tell" in answer:
                    self._told(answer)
                    continue
                future = self._waiting.get(answer.pop("number", 0))
                if future is not None and not future.done():
                    future.set_result(answer)
        except (ConnectionError, ValueError):
            pass
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerGone("closed"))

    def close(self) -> None:
        """Close this end."""
        self._reading.cancel()
        self._writer.close()


async def answer(
    descriptor: int,
    handle: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
    siblings: Siblings,
) -> None:
    """Answer questions until the supervisor closes its end.

    Args:
        descriptor: this worker's end of the socket pair.
        handle: gives the answer to a question and its details.
        siblings: tell the supervisor what is for other workers.
    """
    end = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=_LONGEST_LINE)
    siblings.connect(writer)
    running: set[asyncio.Task[None]] = set()

    async def respond(line: bytes) -> None:
        question = orjson.loads(line)
        number = question.pop("number")
        try:
            result = await handle(question.pop("ask"), question)
        except Exception as error:  # noqa: BLE001 - without an answer this worker seems stuck
            result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        writer.write(orjson.dumps(result | {"number": number}) + b"\n")

    try:
        while line := await reader.readline():
            task = asyncio.ensure_future(respond(line))
            running.add(task)
            task.add_done_callback(running.discard)
    except ConnectionError:
        return
    finally:
        writer.close()
