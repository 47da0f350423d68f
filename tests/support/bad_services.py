"""ext_proc services that misbehave in one way each; real gRPC servers on real sockets."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.wire import PROCESS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


async def closes_early(_context: Any, _data: bytes) -> bool:
    """End the stream with OK, without an answer."""
    return False


async def gives_no_verdict(context: Any, _data: bytes) -> bool:
    """Answer properly, but without the verdict."""
    answer = pb.ProcessingResponse(request_headers=pb.HeadersResponse())
    await context.write(answer.SerializeToString())
    return True


async def gives_another_verdict(context: Any, _data: bytes) -> bool:
    """Answer with the verdict of another route."""
    answer = pb.ProcessingResponse(request_headers=pb.HeadersResponse())
    answer.dynamic_metadata.update({"extproc": {"verdict": "other@0000000000000000"}})
    await context.write(answer.SerializeToString())
    return True


async def answers_late(context: Any, data: bytes) -> bool:
    """Answer properly, after the message timeout."""
    await asyncio.sleep(3)
    return await gives_no_verdict(context, data)


async def answers_the_wrong_kind(context: Any, _data: bytes) -> bool:
    """Answer request headers with a body's answer."""
    answer = pb.ProcessingResponse(request_body=pb.BodyResponse())
    await context.write(answer.SerializeToString())
    return True


async def answers_rubbish(context: Any, _data: bytes) -> bool:
    """Answer with bytes that are no message."""
    await context.write(b"\xff\xff\xff\xff")
    return True


@contextmanager
def bad_service(address: str, behave: Callable[[Any, bytes], Awaitable[bool]]) -> Iterator[None]:
    """Serve on an address with one behaviour until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def process(_iterator: Any, context: Any) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            if not await behave(context, data):
                return

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            if handler_call_details.method == PROCESS:
                return grpc.stream_stream_rpc_method_handler(process)
            if handler_call_details.method == "/grpc.health.v1.Health/Check":
                return grpc.unary_unary_rpc_method_handler(_serving)
            return None

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        server.add_insecure_port(address)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _serving(_data: bytes, _context: Any) -> bytes:
    return b"\x08\x01"  # HealthCheckResponse{status: SERVING}
