"""The portable gRPC server: `grpcio` (aio). Also the one for TLS and for other hosts."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from extproc.adapters import service
from extproc.adapters.wire import PROCESS, encode, override_timeout
from extproc.adapters.wire_authz import CHECK
from extproc.adapters.wire_log import STREAM_ACCESS_LOGS
from extproc.adapters.within import done_within
from extproc.core.errors import PeerFault
from extproc.core.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from extproc.adapters.service import Deciding
    from extproc.core.exchange import Exchange
    from extproc.core.messages import Answer

_UNBOUNDED = -1  # bodies are bounded by the gateway file, in Envoy
_OPTIONS = [
    ("grpc.max_receive_message_length", _UNBOUNDED),
    ("grpc.max_send_message_length", _UNBOUNDED),
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.so_reuseport", 0),
    # Envoy opens one stream per request and pings rarely; be strict about neither.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
]

type_of_context = grpc.aio.ServicerContext[Any, Any]


class GrpcioServer:
    """Serves ext_proc, ext_authz, access logs and grpc.health.v1 on any number of addresses."""

    def __init__(
        self, deciding: Deciding, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._deciding = deciding
        self._credentials = credentials
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._finishing: set[asyncio.Task[None]] = set()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((_Handler(self),))

    def listen(self, address: str) -> str:
        """Bind `unix:/path` or `host:port`.

        Returns:
            The address as bound, with the port that was chosen for port 0.

        Raises:
            RuntimeError: the address can't be bound.
        """
        if self._credentials is not None:
            port = self._server.add_secure_port(address, self._credentials)
        else:
            port = self._server.add_insecure_port(address)
        if address.startswith("unix:"):
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Serve, and say so to health checks."""
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Tell health checks, let exchanges end for up to `grace` seconds, close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=grace)

    async def process(self, _iterator: object, context: type_of_context) -> None:
        """Serve one `Process` stream."""
        exchange = self._deciding.exchange()
        try:
            await self._answer_all(exchange, context)
        except PeerFault as error:
            self._deciding.log.warning("stream refused", error=str(error))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        finally:
            self._finish(exchange)

    async def _answer_all(self, exchange: Exchange, context: type_of_context) -> None:
        while True:
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            answers = service.receive(exchange, data)
            request = exchange.request
            if request is not None and request.endings is not None and request.cut is None:
                request.cut = _ending(asyncio.current_task())
            if isinstance(answers, Waiting):
                async for messages in _waited(exchange, answers):
                    answers = messages
                    await _write(context, messages)
            else:
                await _write(context, answers)
            if not answers:
                return  # a capture given up: the verdict was given, the rest passes unseen

    def _finish(self, exchange: Exchange) -> None:
        """Run `on_finish` beside the end of the stream: it may be ending by cancellation."""
        rest = service.finish(exchange)
        if rest is None:
            return
        task = asyncio.ensure_future(rest)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def check(self, data: bytes, context: type_of_context) -> bytes:
        """Serve one ext_authz `Check`."""
        try:
            return await service.check(self._deciding, data)
        except PeerFault as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    async def access_logs(self, _iterator: object, context: type_of_context) -> bytes:
        """Serve one `StreamAccessLogs` stream."""
        while (data := await context.read()) is not grpc.aio.EOF:
            try:
                service.access_log(self._deciding, data)
            except PeerFault as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return service.ACCESS_LOG_DONE


class _Handler(grpc.GenericRpcHandler):
    """Hands raw bytes on: the wire module alone decodes."""

    def __init__(self, server: GrpcioServer) -> None:
        self._methods: dict[str, Any] = {
            PROCESS: grpc.stream_stream_rpc_method_handler(server.process),
            CHECK: grpc.unary_unary_rpc_method_handler(server.check),
            STREAM_ACCESS_LOGS: grpc.stream_unary_rpc_method_handler(server.access_logs),
        }

    def service(self, handler_call_details: Any) -> Any:
        """Find the method's handler."""
        return self._methods.get(handler_call_details.method)


def _ending(task: asyncio.Task[object] | None) -> Callable[[], None]:
    """Return what ends a stream in the middle: with its handler, the stream is cancelled."""

    def cut() -> None:
        if task is not None:
            task.cancel()

    return cut


async def _waited(exchange: Exchange, waiting: Waiting) -> AsyncIterator[tuple[bytes, ...]]:
    """Await an answer that takes time, asking Envoy for more where it is long."""
    task: asyncio.Task[Answer] = asyncio.ensure_future(waiting)
    try:
        done = await done_within(task, service.ASK_AFTER)
        seconds = service.remaining(exchange)
        if not done and seconds > 0:
            yield (override_timeout(seconds),)
        yield encode(await task)
    finally:
        task.cancel()
        waiting.close()


async def _write(context: type_of_context, messages: Sequence[bytes]) -> None:
    for message in messages:
        await context.write(message)


class _Files:
    """The files of TLS as they are now: certificates are renewed while their service runs.

    What doesn't fit together, as while one of two files is written, leaves what was read before.
    """

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path | None) -> None:
        self._certificate, self._private_key = certificate, private_key
        self._client_ca = client_ca
        self._seen = self._look()
        self.first = self._read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what to go on with; None for what there is. Called with each handshake."""
        try:
            seen = self._look()
            if seen == self._seen:
                return None
            read = self._read()
        except OSError:  # an error of TLS is one
            return None
        self._seen = seen
        return read

    def _look(self) -> list[tuple[int, int, int]]:
        files = (self._certificate, self._private_key, self._client_ca)
        stats = [file.stat() for file in files if file is not None]
        return [(stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._private_key)
        roots = None
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            roots = self._client_ca.read_bytes()
        pair = (self._private_key.read_bytes(), self._certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], roots)


def tls_credentials(
    certificate: Path, private_key: Path, client_ca: Path | None
) -> grpc.ServerCredentials:
    """Follow TLS files; with `client_ca` a client must show a certificate it signed.

    Raises:
        OSError: they can't be read, or don't fit together.
    """
    files = _Files(certificate, private_key, client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.first,
        files.changed,  # type: ignore[arg-type]  # None is for no change
        require_client_authentication=client_ca is not None,
    )
