"""A closed-loop HTTP/1.1 client that costs little: one request after the other per connection."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

_END = b"\r\n\r\n"


@dataclass(slots=True)
class Taken:
    """What a load measured.

    Attributes:
        requests: how many were answered.
        seconds: how long it took.
        times: of each request, seconds.
        wrong: answers that weren't 200.
    """

    requests: int
    seconds: float
    times: list[float]
    wrong: int

    def percentile(self, part: float) -> float:
        """Return a percentile of the times, seconds."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class _Connection(asyncio.Protocol):
    """Sends the same request until the count is used up."""

    def __init__(self, request: bytes, left: list[int], taken: Taken) -> None:
        self._request = request
        self._left = left
        self._taken = taken
        self._buffer = b""
        self._began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            return
        self._left[0] -= 1
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take an answer, whole or in pieces."""
        self._buffer += data
        if not _whole(self._buffer):
            return
        self._taken.times.append(time.perf_counter() - self._began)
        self._taken.requests += 1
        self._taken.wrong += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        del error
        if not self.done.done():
            self.done.set_result(None)


def _whole(data: bytes) -> bool:
    head, separator, body = data.partition(_END)
    if not separator:
        return False
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        return body.endswith(b"0\r\n\r\n")
    _, found, rest = lowered.partition(b"content-length:")
    return not found or len(body) >= int(rest.partition(b"\r\n")[0])


async def load(port: int, request: bytes, requests: int, connections: int) -> Taken:
    """Send a request so many times over so many connections."""
    taken = Taken(0, 0.0, [], 0)
    left = [requests]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    protocols = [_Connection(request, left, taken) for _ in range(connections)]
    for protocol in protocols:
        await loop.create_connection(lambda p=protocol: p, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(protocol.done for protocol in protocols))
    taken.seconds = time.perf_counter() - began
    return taken
