"""One contract for both servers: the same exchanges, the same answers, the same statuses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.adapters.grpcio_server import GrpcioServer
from extproc.adapters.messages import access_log_pb2, ext_authz_pb2
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.wire import PROCESS
from extproc.adapters.wire_authz import CHECK
from extproc.adapters.wire_log import STREAM_ACCESS_LOGS
from tests.local.services import Running, check_request, headers, piece, running
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Status = grpc.StatusCode


@pytest_asyncio.fixture(params=["local", "grpcio"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """Run each server."""
    async with running(request.param) as server:
        yield server


async def status(call: Any) -> Status:
    """Return how a call ended."""
    code: Status = await call.code()
    return code


async def test_an_exchange(place: Running) -> None:
    """One message, one answer with a verdict; the end is OK and the plugin hears of it."""
    call = place.process()
    await call.write(headers("/a"))
    answer = await call.read()
    assert answer.dynamic_metadata.fields["extproc"].struct_value.fields["verdict"].string_value
    [option] = answer.request_headers.response.header_mutation.set_headers
    assert (option.header.key, option.header.raw_value) == ("x-seen", b"/a")
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await status(call) is Status.OK
    assert [o.decision for o in place.plugins["plain"].outcomes] == ["allow"]


@pytest.mark.parametrize(("path", "code"), [("/deny", 403), ("/raise", 500)])
async def test_an_answer_from_here(place: Running, path: str, code: int) -> None:
    """An immediate response."""
    call = place.process()
    await call.write(headers(path))
    answer = await call.read()
    assert answer.immediate_response.status.code == code
    await call.done_writing()
    assert await status(call) is Status.OK


async def test_a_large_answer(place: Running) -> None:
    """Beyond every window."""
    call = place.process()
    await call.write(headers("/large"))
    answer = await call.read()
    assert answer.streamed_immediate_response.headers_response.headers.headers
    size, ended = 0, False
    while not ended:
        piece_ = (await call.read()).streamed_immediate_response.body_response
        size, ended = size + len(piece_.body), piece_.end_of_stream
    assert size == 3_000_000
    await call.done_writing()
    assert await status(call) is Status.OK


@pytest.mark.parametrize("size", [0, 1, 20_000, 5_000_000])
async def test_a_whole_body(place: Running, size: int) -> None:
    """There and back."""
    call = place.process()
    await call.write(headers("/a", "bodies", end=False))
    await call.read()
    await call.write(piece(b"x" * size, end=True))
    answer = await call.read()
    body = answer.request_body.response.body_mutation.body
    assert body == b"X" * size
    await call.done_writing()
    assert await status(call) is Status.OK


async def test_pieces_behind_one_that_waits(place: Running) -> None:
    """Answered in their order, also when many come at once, and none is lost."""
    call = place.process()
    await call.write(headers("/a", "pieces", end=False))
    await call.read()
    pieces = [b"a", b"wait", b"b" * 300_000, b"c" * 400_000, b"wait", b"d"]
    for number, data in enumerate(pieces):
        await call.write(piece(data, end=number == len(pieces) - 1))
    await call.done_writing()
    first = await call.read()
    assert first.request_body.response.body_mutation.body == b"A"
    await until_async(lambda: place.plugins["pieces"].waiting == 1)
    place.plugins["pieces"].let_go.set()
    for data in pieces[1:]:
        answer = await call.read()
        assert answer.request_body.response.body_mutation.body == data.upper()
    assert await call.read() is grpc.aio.EOF
    assert await status(call) is Status.OK


async def test_a_hook_that_waits(place: Running) -> None:
    """Others are answered meanwhile."""
    slow = place.process()
    await slow.write(headers("/wait"))
    await until_async(lambda: place.plugins["plain"].waiting == 1)
    quick = place.process()
    await quick.write(headers("/a"))
    assert await quick.read()
    place.plugins["plain"].let_go.set()
    answer = await slow.read()
    assert answer.HasField("request_headers") or answer.HasField("override_message_timeout")


async def test_a_cancelled_call(place: Running) -> None:
    """Its hook is cancelled, and its end is reported."""
    call = place.process()
    await call.write(headers("/wait"))
    plugin = place.plugins["plain"]
    await until_async(lambda: plugin.waiting == 1)
    call.cancel()
    await until_async(lambda: plugin.waiting == 0)
    assert plugin.cancelled == 1
    await until_async(lambda: len(plugin.outcomes) == 1)


async def test_a_lost_connection(place: Running) -> None:
    """As a cancelled call, for each."""
    calls = [place.process() for _ in range(3)]
    for call in calls:
        await call.write(headers("/wait"))
    plugin = place.plugins["plain"]
    await until_async(lambda: plugin.waiting == 3)
    for channel in place.channels:
        await channel.close()
    place.channels.clear()
    await until_async(lambda: plugin.waiting == 0)
    await until_async(lambda: len(plugin.outcomes) == 3)


async def test_an_expired_call(place: Running) -> None:
    """The client's deadline is ours (grpc-timeout)."""
    call = place.process(timeout=0.3)
    await call.write(headers("/wait"))
    assert await status(call) is Status.DEADLINE_EXCEEDED
    await until_async(lambda: place.plugins["plain"].waiting == 0)


async def test_an_expired_call_that_sent_nothing(place: Running) -> None:
    """A call that is opened and left."""
    assert await status(place.process(timeout=0.2)) is Status.DEADLINE_EXCEEDED


async def test_metadata_is_no_obstacle(place: Running) -> None:
    """Text and binary, and more than a few."""
    metadata = [(f"k{n}", "v" * 100) for n in range(20)] + [("x-bin", b"\0\xff")]
    call = place.process(metadata=metadata)
    await call.write(headers("/a"))
    assert await call.read()


async def test_rubbish(place: Running) -> None:
    """What is no message of the protocol ends the stream with an error."""
    call = place.channel().stream_stream(PROCESS)()
    await call.write(b"\xff\xff\xff")
    assert await status(call) is Status.FAILED_PRECONDITION


async def test_a_message_out_of_turn(place: Running) -> None:
    """A body before headers breaks the law of an exchange."""
    call = place.process()
    await call.write(piece(b"x"))
    assert await status(call) is Status.FAILED_PRECONDITION


@pytest.mark.parametrize("method", ["/no.Service/Method", "/grpc.health.v1.Health/Nothing", "/x"])
async def test_an_unknown_method(place: Running, method: str) -> None:
    """UNIMPLEMENTED; the connection goes on."""
    channel = place.channel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(method)(b"")
    assert caught.value.code() is Status.UNIMPLEMENTED
    call = channel.stream_stream(PROCESS, None, pb.ProcessingResponse.FromString)()
    await call.write(headers("/a").SerializeToString())
    assert await call.read()


async def test_compression_is_refused_or_understood(place: Running) -> None:
    """The local server says what it accepts; grpcio inflates. Neither reads rubbish."""
    call = place.process(compression=grpc.Compression.Gzip)
    if isinstance(place.server, GrpcioServer):
        await call.write(headers("/" + "a" * 2000))
        assert (await call.read()).HasField("request_headers")
    else:
        assert await status(call) is Status.UNIMPLEMENTED
        assert "identity" in await call.details()


@pytest.mark.parametrize(("path", "allowed"), [("/a", True), ("/deny", False), ("/raise", False)])
async def test_check(place: Running, path: str, *, allowed: bool) -> None:
    """ext_authz: the same plugins."""
    data = await place.channel().unary_unary(CHECK)(check_request(path))
    answer = ext_authz_pb2.CheckResponse.FromString(data)
    assert (answer.status.code == 0) is allowed


async def test_many_calls_in_a_row(place: Running) -> None:
    """A client of gRPC's C core sends frames without work with each; it isn't taken for a flood."""
    call = place.channel().unary_unary(CHECK)
    for _ in range(60):
        await asyncio.gather(*(call(check_request("/a")) for _ in range(100)))
    assert place.log.events == []


async def test_many_messages_in_a_row(place: Running) -> None:
    """The same on one stream."""
    call = place.process()
    await call.write(headers("/", "pieces", end=False))
    assert (await call.read()).HasField("request_headers")
    for _ in range(6_000):
        await call.write(piece(b"x"))
        assert (await call.read()).HasField("request_body")
    assert place.log.events == []


async def test_check_that_waits_and_expires(place: Running) -> None:
    """Envoy sets a deadline for these calls."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await place.channel().unary_unary(CHECK)(check_request("/wait"), timeout=0.3)
    assert caught.value.code() is Status.DEADLINE_EXCEEDED
    await until_async(lambda: place.plugins["plain"].waiting == 0)


async def test_check_with_rubbish(place: Running) -> None:
    """INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await place.channel().unary_unary(CHECK)(b"\xff\xff")
    assert caught.value.code() is Status.INVALID_ARGUMENT


async def test_access_logs(place: Running) -> None:
    """Counted by route and class of status; the answer comes at the end."""
    message = access_log_pb2.StreamAccessLogsMessage()
    for code in (200, 204, 503, 0):
        entry = message.http_logs.log_entry.add()
        entry.common_properties.route_name = "r"
        if code:
            entry.response.response_code.value = code
    call = place.channel().stream_unary(STREAM_ACCESS_LOGS)()
    for _ in range(2):
        await call.write(message.SerializeToString())
    await call.done_writing()
    assert await call == b""
    name = "extproc_access_log_entries_total"
    counted = {labels: n for (metric, labels), n in place.counts.counts.items() if metric == name}
    assert counted == {("r", "2xx"): 4, ("r", "5xx"): 2, ("r", "none"): 2}


async def test_access_logs_with_rubbish(place: Running) -> None:
    """INVALID_ARGUMENT."""
    call = place.channel().stream_unary(STREAM_ACCESS_LOGS)()
    await call.write(b"\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is Status.INVALID_ARGUMENT


async def test_health(place: Running) -> None:
    """Serving; an unknown name is not found."""
    stub: Any = health_pb2_grpc.HealthStub(place.channel())
    request = health_pb2.HealthCheckRequest
    assert (await stub.Check(request())).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request(service="other"))
    assert caught.value.code() is Status.NOT_FOUND


async def test_health_is_watched(place: Running) -> None:
    """The state now, and the change when the server stops; an unknown name is told as such."""
    stub: Any = health_pb2_grpc.HealthStub(place.channel())
    states = health_pb2.HealthCheckResponse
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
    assert (await unknown.read()).status == states.SERVICE_UNKNOWN
    unknown.cancel()
    call = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await call.read()).status == states.SERVING
    stopping = asyncio.ensure_future(place.server.stop(2.0))
    assert (await call.read()).status == states.NOT_SERVING
    call.cancel()
    await stopping


async def test_exchanges_finish_when_the_server_stops(place: Running) -> None:
    """What runs gets its answer; what comes later finds nobody."""
    call = place.process()
    await call.write(headers("/wait"))
    plugin = place.plugins["plain"]
    await until_async(lambda: plugin.waiting == 1)
    stopping = asyncio.ensure_future(place.server.stop(10.0))
    await asyncio.sleep(0)
    late = place.process()
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await late.write(headers("/a"))
    assert await status(late) is Status.UNAVAILABLE
    assert not stopping.done()
    plugin.let_go.set()
    answer = await call.read()
    while answer.HasField("override_message_timeout"):
        answer = await call.read()
    assert answer.HasField("request_headers")
    await call.done_writing()
    assert await status(call) is Status.OK
    await asyncio.wait_for(stopping, 5)


async def test_hundreds_of_exchanges_at_once(place: Running) -> None:
    """On one connection, half of them waiting."""
    channel = place.channel()
    method = channel.stream_stream(PROCESS, None, pb.ProcessingResponse.FromString)
    calls = [method() for _ in range(400)]
    for number, call in enumerate(calls):
        await call.write(headers("/wait" if number % 2 else "/a").SerializeToString())
    plugin = place.plugins["plain"]
    await until_async(lambda: plugin.waiting == 200)
    plugin.let_go.set()
    for call in calls:
        assert await call.read()
        await call.done_writing()
        # On a slow machine the first answer asks for more time; the status comes behind the rest.
        while await call.read() is not grpc.aio.EOF:
            pass
        assert await status(call) is Status.OK
    assert len(plugin.outcomes) == 400
