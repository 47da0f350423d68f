"""The yardstick: a trivial ext_proc service on grpc.aio and uvloop that sets one header."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from extproc.adapters.messages import ext_proc_pb2 as pb

_METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def constant_answer() -> bytes:
    """Return its answer, the same to each request."""
    answer = pb.ProcessingResponse()
    option = answer.request_headers.response.header_mutation.set_headers.add()
    option.header.key = "x-yardstick"
    option.header.raw_value = b"1"
    return bytes(answer.SerializeToString())


async def _process(_iterator: Any, context: Any) -> None:
    while True:
        request = await context.read()
        if request is grpc.aio.EOF:
            return
        answer = pb.ProcessingResponse()
        option = answer.request_headers.response.header_mutation.set_headers.add()
        option.header.key = "x-yardstick"
        option.header.raw_value = b"1"
        await context.write(answer)


class _Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != _METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(
            _process,
            request_deserializer=pb.ProcessingRequest.FromString,
            response_serializer=pb.ProcessingResponse.SerializeToString,
        )


async def _main() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(),))
    server.add_insecure_port(sys.argv[1])
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
