"""An upstream that costs little: a list of eight items to everything, at once or after a while."""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

_ITEMS = [
    {"id": n, "product": n * 7, "title": f"A thing of kind {n}", "stock": n * 3, "price": "9.99"}
    for n in range(1, 9)
]
_BODY = json.dumps({"id": 7, "name": "Alice", "items": _ITEMS}).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    + str(len(_BODY)).encode()
    + b"\r\n\r\n"
    + _BODY
)
_PAUSE = float(sys.argv[1])


class _Origin(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each head; requests here have no bodies."""
        self._buffer += data
        *whole, self._buffer = self._buffer.split(b"\r\n\r\n")
        for _ in whole:
            if _PAUSE:
                asyncio.get_running_loop().call_later(_PAUSE, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Origin, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
