"""An upstream that counts, remembers what it got, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Got:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Return the path alone."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """Return the query's parameters, decoded."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        """Return the body as plain values."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Say:
    """What is answered.

    Attributes:
        value: written as JSON, unless `body` is given.
        after: seconds before anything is sent.
        once: nothing is sent before this is set; `after` seconds at most.
        length: the content length that is claimed.
        then: what becomes of the connection: keep, close, reset or hang (nothing is sent at all).
        slowly: seconds between the bytes of the body.
    """

    value: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after: float = 0.0
    once: threading.Event | None = None
    length: int | None = None
    then: str = "keep"
    slowly: float = 0.0


class Counting:
    """A server in a thread of its own.

    Attributes:
        got: every request, in order.
        given_up: requests whose connection was closed before the answer was sent.
    """

    def __init__(self, answer: Callable[[Got], Say]) -> None:
        self.answer = answer
        self.got: list[Got] = []
        self.given_up: list[Got] = []
        self.port = 0
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in order."""
        return [got.path for got in self.got]

    def targets(self) -> list[str]:
        """Return what was asked for with its query, sorted."""
        return sorted(got.target for got in self.got)

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return self.paths().count(path)

    def forget(self) -> None:
        """Begin to count anew."""
        self.got.clear()
        self.given_up.clear()

    def run(self) -> None:
        """Serve until stopped."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    def started(self) -> None:
        """Wait until it listens."""
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End it."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._request(reader, writer):
                pass
        with suppress(ConnectionError):
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, _, rest = first.partition(" ")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._body(reader, headers)
        got = Got(method, rest.rpartition(" ")[0], headers, body)
        self.got.append(got)
        say = self.answer(got)
        if say.after or say.then == "hang":
            gone = asyncio.ensure_future(reader.read(1))
            pause = 3600.0 if say.then == "hang" else say.after
            if not await _quiet(gone, pause, say.once):
                self.given_up.append(got)
                return False
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
        return await self._say(say, writer)

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int((await reader.readline()).partition(b";")[0], 16):
                pieces.append(await reader.readexactly(size))
                await reader.readline()
            await reader.readline()
            return b"".join(pieces)
        return await reader.readexactly(int(headers.get("content-length", "0")))

    async def _say(self, say: Say, writer: asyncio.StreamWriter) -> bool:
        if say.then == "reset":
            writer.transport.abort()
            return False
        body = say.body if say.body is not None else json.dumps(say.value).encode()
        headers = {"content-type": "application/json"} | say.headers
        headers["content-length"] = str(len(body) if say.length is None else say.length)
        lines = [f"HTTP/1.1 {say.status} Said", *(f"{n}: {v}" for n, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if say.slowly:
            for place in range(len(body)):
                writer.write(body[place : place + 1])
                await writer.drain()
                await asyncio.sleep(say.slowly)
        else:
            writer.write(body)
        await writer.drain()
        if say.then == "close":
            writer.close()
        return say.then == "keep"


async def _quiet(gone: asyncio.Future[bytes], seconds: float, once: threading.Event | None) -> bool:
    """Wait until it is time to answer; false where the client has gone away before."""
    ends = asyncio.get_running_loop().time() + seconds
    step = seconds if once is None else 0.01
    while not (once is not None and once.is_set()):
        left = ends - asyncio.get_running_loop().time()
        if left <= 0:
            break
        done, _ = await asyncio.wait((gone,), timeout=min(step, left))
        if done:
            return False
    return True


@contextmanager
def counting(answer: Callable[[Got], Say]) -> Iterator[Counting]:
    """Run one until the end of the block."""
    server = Counting(answer)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    server.started()
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)
