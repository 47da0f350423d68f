"""Records what a real Envoy sends to the service: the seeds of the fuzzer.

    python -m tests.fuzz.record

A relay stands between Envoy and the service; each connection's bytes from Envoy become one file.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from examples.shop.processes import Shop
from tests.support.client import ask
from tests.support.places import free_port, short_folder
from tests.support.processes import envoy, head, printed_envoy, service
from tests.support.waiting import until

RECORDED = Path(__file__).parent / "recorded"
_MOST = 200_000  # bytes of one file

PLUGINS = """
from extproc import Plugin

class Whole(Plugin):
    def on_request_body(self, request, body):
        return body.upper()
    def on_response(self, request, response):
        response.headers["x-seen"] = "1"
    def on_response_body(self, request, response, body):
        return body + b" "

class Pieces(Plugin):
    streaming = True
    def on_request_body(self, request, body):
        return body
    def on_response_body(self, request, response, body):
        return body
"""
ROUTES = """
defaults: {authentication: none}
routes:
  - {name: plain, match: {path: /plain/*}, upstream: echo}
  - {name: set, match: {path: /set/*}, upstream: echo, request: {headers: {set: {x-set: "1"}}}}
  - {name: whole, match: {path: /whole/*}, upstream: echo, plugins: [{use: "own.py:Whole"}]}
  - {name: pieces, match: {path: /pieces/*}, upstream: echo, plugins: [{use: "own.py:Pieces"}]}
  - {name: stored, match: {path: /stored/*}, upstream: echo, cache: {ttl: 1h}}
"""


class Relay:
    """Carries bytes between Envoy and the service, and keeps those from Envoy."""

    def __init__(self, listen: str, service_path: str) -> None:
        self.kept: list[bytearray] = []
        self._listen, self._service = listen, service_path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Drop every connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_unix_server(self._carry, self._listen))
        self._ready.set()
        self._loop.run_forever()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._service)
        kept = bytearray()
        self.kept.append(kept)

        async def copy(
            source: asyncio.StreamReader, to: asyncio.StreamWriter, into: bytearray | None
        ) -> None:
            while data := await source.read(1 << 16):
                if into is not None and len(into) < _MOST:
                    into += data
                to.write(data)
                await to.drain()
            to.close()

        await asyncio.gather(copy(reader, back, kept), copy(there, writer, None))


def main() -> None:
    """Record."""
    with Shop(only=("echo",)) as shop, short_folder() as folder:
        port = free_port()
        file = folder / "gateway.yaml"
        upstream = f"upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{shop.ports['echo']}']}}}}"
        (folder / "own.py").write_text(PLUGINS)
        file.write_text(head(port, free_port()) + upstream + ROUTES)
        relay = Relay(f"{folder}/r", f"{folder}/s")
        egress, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        options = ("--service", f"unix:{folder}/r", "--egress", egress, "--admin", admin)
        config = printed_envoy(file, *options)
        with service(file, f"unix:{folder}/s", egress):
            relay.start()
            with envoy(config, port):
                until(lambda: ask(port, "/plain/x").status == 200, "the service is healthy")
                _talk(port)
            relay.stop()
    RECORDED.mkdir(exist_ok=True)
    for old in RECORDED.glob("*.bin"):
        old.unlink()
    for number, kept in enumerate(relay.kept):
        (RECORDED / f"{number}.bin").write_bytes(kept)
        sys.stdout.write(f"{number}.bin: {len(kept)} bytes\n")


def _talk(port: int) -> None:
    for number in range(6):
        for route in ("plain", "set", "whole", "pieces", "stored"):
            body = b"x" * (20_000 if number == 3 else 10 * number)
            ask(port, f"/{route}/{number}", method="POST" if body else "GET", body=body or None)
            ask(port, f"/{route}/query?a={number}", method="GET")


if __name__ == "__main__":
    main()
