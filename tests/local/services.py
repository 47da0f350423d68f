"""Both gRPC servers for tests, in this process, with routes whose plugins do as the path says."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from extproc.adapters.grpcio_server import GrpcioServer
from extproc.adapters.local.server import LocalServer
from extproc.adapters.messages import ext_authz_pb2
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.service import Deciding
from extproc.adapters.wire import PROCESS
from extproc.core.chain import Chain
from extproc.core.guard import Guard, Limits
from extproc.core.plugin import Plugin
from extproc.core.routes import PathPattern, Route, Routes
from extproc.core.values import Response
from extproc.core.verdict import ROUTE_ATTRIBUTE, ROUTE_EXTENSION
from extproc.testing import Counts, DirectRuntime, Events, ManualClock
from tests.support.places import short_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from extproc.adapters.http2.limits import Limits as WireLimits
    from extproc.core.values import Outcome, Request

SERVERS = {"local": LocalServer, "grpcio": GrpcioServer}


class RealClock(ManualClock):
    """The time of day, for limits that the server itself counts; a test may put it ahead."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class AsThePathSays(Plugin):
    """`/wait` waits until it is let go, `/raise` raises, `/deny` denies, others pass.

    `/linger` waits as well, and has something to wait for at its end, and in `on_finish`.
    """

    def begin(self) -> None:
        """Forget everything."""
        self.let_go = asyncio.Event()
        self.waiting = 0
        self.cancelled = 0
        self.cleaned = 0
        self.outcomes: list[Outcome] = []

    def on_request(self, request: Request) -> Any:
        match request.path:
            case "/wait":
                return self.wait()
            case "/linger":
                return self.linger()
            case "/raise":
                raise RuntimeError("as asked")
            case "/deny":
                return Response.problem(403, "Denied")
            case "/large":
                return Response(200, {"content-type": "text/plain"}, b"x" * 3_000_000)
        request.headers["x-seen"] = request.path
        return None

    async def wait(self) -> None:
        self.waiting += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    async def linger(self) -> None:
        try:
            await self.wait()
        finally:
            await asyncio.sleep(0)
            self.cleaned += 1

    def on_finish(self, request: Request, outcome: Outcome) -> Any:
        if request.path == "/linger":
            return self.finish(outcome)
        self.outcomes.append(outcome)
        return None

    async def finish(self, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        self.outcomes.append(outcome)


class Bodies(AsThePathSays):
    """The same, and turns bodies to upper case, on both sides."""

    def on_response_body(self, request: Request, response: Response, body: bytes) -> bytes:
        return body.upper()

    def on_request_body(self, request: Request, body: bytes) -> bytes:
        return body.upper()


class Pieces(AsThePathSays):
    """The same for pieces; a piece `wait` waits."""

    streaming = True

    def on_request_body(self, request: Request, body: bytes) -> Any:
        return self.piece(body) if body == b"wait" else body.upper()

    async def piece(self, body: bytes) -> bytes:
        await self.wait()
        return body.upper()


@dataclass
class Running:
    """A server and what it stands on."""

    server: Any
    address: str
    plugins: dict[str, Any]
    counts: Counts
    log: Events
    channels: list[Any] = field(default_factory=list)

    @property
    def clock(self) -> RealClock:
        """What the server has for the time of day."""
        clock: RealClock = self.server._deciding.clock
        return clock

    def channel(self) -> Any:
        """Return a connection of its own."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        channel = grpc.aio.insecure_channel(self.address, options=options)
        self.channels.append(channel)
        return channel

    def process(self, **options: Any) -> Any:
        """Begin an exchange."""
        return self.channel().stream_stream(
            PROCESS, pb.ProcessingRequest.SerializeToString, pb.ProcessingResponse.FromString
        )(**options)


def headers(path: str, route: str = "plain", *, end: bool = True) -> pb.ProcessingRequest:
    """Return the first message of an exchange."""
    message = pb.ProcessingRequest()
    message.request_headers.end_of_stream = end
    pairs = {":method": "POST", ":scheme": "http", ":authority": "h", ":path": path}
    for name, value in pairs.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    fields = message.attributes["envoy.filters.http.ext_proc"].fields
    fields[ROUTE_ATTRIBUTE].string_value = f"{route}@v"
    return message


def check_request(path: str) -> bytes:
    """Return a CheckRequest for the route `plain`."""
    message = ext_authz_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.host, http.scheme = "GET", path, "h", "http"
    message.attributes.context_extensions[ROUTE_EXTENSION] = "plain@v"
    return message.SerializeToString()


def piece(data: bytes, *, end: bool = False) -> pb.ProcessingRequest:
    """Return a body message."""
    message = pb.ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = end
    return message


def deciding() -> tuple[Deciding, dict[str, Any], Counts, Events]:
    """Return routes `plain`, `bodies` and `pieces`, each with its plugin."""
    counts, log, clock = Counts(), Events(), RealClock()
    plugins = {"plain": AsThePathSays(), "bodies": Bodies(), "pieces": Pieces()}
    routes = Routes()
    for name, plugin in plugins.items():
        plugin.begin()
        guard = Guard(plugin, name, Limits(deadline=20.0), DirectRuntime(clock), counts, log)
        routes.add([Route(name, "v", PathPattern.parse("/*"), Chain([guard]), 20.0)])
    return Deciding(routes, clock, counts, log), plugins, counts, log


@asynccontextmanager
async def running(
    kind: str, limits: WireLimits | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Run a server on a Unix socket until the end of the block."""
    decides, plugins, counts, log = deciding()
    with short_folder() as folder:
        extra = {"limits": limits, **options} if kind == "local" else {}
        server = SERVERS[kind](decides, **extra)
        address = server.listen(f"unix:{folder}/s")
        await server.start()
        place = Running(server, address, plugins, counts, log)
        try:
            yield place
        finally:
            for channel in place.channels:
                await channel.close()
            await server.stop(1.0)
