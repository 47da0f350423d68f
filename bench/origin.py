"""An upstream that costs little: a fixed JSON answer to everything."""

from __future__ import annotations

import asyncio
import sys

import uvloop

_BODY = b'{"id":7,"name":"Alice","items":[{"id":1,"product":7},{"id":2,"product":9}]}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    + str(len(_BODY)).encode()
    + b"\r\n\r\n"
    + _BODY
)


class _Origin(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each head; requests here have no bodies."""
        self._buffer += data
        *whole, self._buffer = self._buffer.split(b"\r\n\r\n")
        if whole:
            self._transport.write(_ANSWER * len(whole))  # type: ignore[attr-defined]


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Origin, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
