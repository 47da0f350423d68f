"""A real Envoy for policy tests: the same bytes, judged by the same plugins, over a socket.

Envoy gets the configuration that `run` would give it, on a free port and with one small upstream in
the place of all; the service is this process, whose clock stands where the tests say. What differs
from the offline verdict is then Envoy's reading of the request, or ours.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import tempfile
from contextlib import asynccontextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from extproc.adapters.local.server import LocalServer
from extproc.adapters.service import Deciding
from extproc.adapters.system import JsonLog, system_roots
from extproc.config.build import assemble
from extproc.core.headers import Headers
from extproc.core.routes import Routes
from extproc.envoy_config.shapes import Facts
from extproc.host.proxy import Proxy
from extproc.offline.gate import Gate, Kept
from extproc.offline.verdict import Upstream, Verdict, of_envoy, of_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from extproc.config.build import Assembly
    from extproc.offline.running import Live, Prepared

_ANSWER_WITHIN = 15.0
_RECORD_WITHIN = 2.0
_LOOK_AGAIN = 0.005
# One request for each connection, so that what is left of a body never matters.
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\nconnection: close\r\n\r\n{}"
)
_STATUS = slice(9, 12)


def through_envoy(binary: str) -> Live:
    """Return what opens an Envoy for a file of tests.

    Args:
        binary: Envoy's.
    """

    @asynccontextmanager
    async def opened(prepared: Prepared) -> AsyncIterator[Callable[[bytes], Awaitable[Verdict]]]:
        # Short: a Unix socket's path has at most 107 bytes; mkdtemp makes it 0700.
        folder = Path(tempfile.mkdtemp(prefix="extproc-"))
        try:
            async with _running(prepared, binary, folder) as trial:
                yield trial.judge
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return opened


@asynccontextmanager
async def _running(prepared: Prepared, binary: str, folder: Path) -> AsyncIterator[Trial]:
    """Start upstream, service and Envoy, in this order; stop them in the other."""
    upstream = StandIn()
    port, listening = await upstream.start(), _free_port()
    assembly = _changed(prepared.assembly, f"127.0.0.1:{listening}", f"http://127.0.0.1:{port}")
    prepared.trusting(assembly)
    gate, kept = Gate(assembly, prepared.now), Kept()
    await gate.start()
    routes = Routes()
    routes.add(gate.routes.values())
    server = LocalServer(Deciding(routes, gate.clock, gate.counts, gate.log, recorder=kept))
    server.listen(f"unix:{folder}/w0")
    await server.start()
    proxy = Proxy(binary, folder, _facts(folder), JsonLog("test"), 1, lambda _record: None)
    # What Envoy says would stand among the results; if it doesn't start, the error holds it.
    with redirect_stderr(StringIO()):
        try:
            await proxy.start(assembly)
            tls = assembly.loaded.gateway.listener.tls is not None
            yield Trial(listening, tls, kept, upstream)
        finally:
            await proxy.stop()
            await server.stop(0)
            await gate.stop()
            await upstream.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _facts(folder: Path) -> Facts:
    return Facts(
        (f"unix:{folder}/w0",),
        f"unix:{folder}/egress",
        f"unix:{folder}/envoy",
        str(folder),
        system_roots(),
    )


def _changed(assembly: Assembly, address: str, endpoint: str) -> Assembly:
    """Return the gateway file with another listener and one upstream in the place of all."""
    loaded = assembly.loaded
    plain = {"tls": None, "health": None, "retries": 0}
    listener = {"address": address, "redirect": None}
    gateway = loaded.gateway.model_copy(
        update={
            "listener": loaded.gateway.listener.model_copy(update=listener),
            "upstreams": {
                name: upstream.model_copy(
                    update=plain | {"endpoints": [_in_place(endpoint, upstream.endpoints[0])]}
                )
                for name, upstream in loaded.gateway.upstreams.items()
            },
        }
    )
    return assemble(replace(loaded, gateway=gateway))


def _in_place(endpoint: str, of: str) -> str:
    """Return an address for the protocol that another one speaks: calls are made by it."""
    scheme = "grpc" if of.startswith("grpc") else "http"
    return f"{scheme}://{endpoint.partition('://')[2]}"


class StandIn:
    """An upstream that answers everything with an empty object, and remembers the last request."""

    def __init__(self) -> None:
        self.last: Upstream | None = None

    async def start(self) -> int:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Listen no more."""
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; its body is read and forgotten."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.last = _sent(head)
            writer.write(_ANSWER)
            await writer.drain()
            while await reader.read(1 << 16):
                pass
        writer.close()


def _sent(head: bytes) -> Upstream:
    """Read a request that Envoy wrote."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":")[::2] for line in lines)
    headers = Headers((name.lower(), value.strip()) for name, value in pairs)
    return Upstream("", first.split(" ")[1], headers.joined())


@dataclass(slots=True)
class _Answer:
    """What a client got.

    Attributes:
        status: 0 where the connection was closed without an answer.
        reason: of a problem.
        judged: whether the service, and not Envoy alone, saw the request.
    """

    status: int = 0
    reason: str = ""
    judged: bool = True


@dataclass(slots=True)
class Trial:
    """One running Envoy."""

    port: int
    tls: bool
    kept: Kept
    upstream: StandIn

    async def judge(self, raw: bytes) -> Verdict:
        """Send raw bytes on a connection of their own and say what became of them."""
        self.kept.last, self.upstream.last = [], None
        answer = await self._asked(raw)
        if not await self._recorded(answer):
            return of_envoy(answer.status or 500, answer.reason)
        (record,) = self.kept.last
        return of_record(record, self.upstream.last)

    async def _recorded(self, answer: _Answer) -> bool:
        """Wait for the record, which is made when the exchange has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_RECORD_WITHIN):
                while answer.judged and not self.kept.last:  # noqa: ASYNC110 - made elsewhere
                    await asyncio.sleep(_LOOK_AGAIN)
        return bool(self.kept.last)

    async def _asked(self, raw: bytes) -> _Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self._context())
        try:
            writer.write(raw)
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await _answer(reader)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return _Answer()
        finally:
            writer.close()

    def _context(self) -> ssl.SSLContext | None:
        """Return a client that believes everybody: this is our own Envoy on our own port."""
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


async def _answer(reader: asyncio.StreamReader) -> _Answer:
    """Read the final response, and its problem if it is one."""
    head = b"HTTP/1.1 100 "
    while head[_STATUS] == b"100":
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    problem = b"application/problem+json" in head
    body = await reader.readexactly(length) if problem else b""
    told = json.loads(body) if body else {}
    reason = str(told.get("type", "")).removeprefix("urn:extproc:")
    # Envoy can't tell the request id of what it refused before it looked for a route.
    judged = not told or told.get("instance") is not None
    return _Answer(int(head[_STATUS]), reason, judged)
