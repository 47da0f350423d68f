"""Large answers made here leave in pieces, where headers allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.wire import encode
from extproc.core.chain import Chain
from extproc.core.exchange import Exchange
from extproc.core.guard import Guard, Limits
from extproc.core.messages import Immediate, RequestHeaders
from extproc.core.plugin import Plugin
from extproc.core.routes import PathPattern, Route
from extproc.core.values import Request, Response
from extproc.testing import Counts, DirectRuntime, Events, ManualClock

if TYPE_CHECKING:
    from extproc.adapters.messages.common_pb2 import HeaderValue

LARGE = 3 << 20


class Answers(Plugin):
    size: int
    cookies: int = 0
    links: int = 0

    def on_request(self, request: Request) -> Response:
        response = Response(200, {"content-type": "text/plain"}, b"x" * self.size)
        for number in range(self.cookies):
            response.headers.add("set-cookie", f"c{number}=1")
        for number in range(self.links):
            response.headers.add("link", f"<{number}>")
        return response


class Reads(Plugin):
    def on_request_body(self, request: Request, body: bytes) -> None:
        return None


async def answer(*plugins: Plugin, method: str = "GET") -> Immediate:
    """Return the answer of a route with these plugins."""
    runtime, counts, log = DirectRuntime(), Counts(), Events()
    guards = [Guard(p, "p", Limits(), runtime, counts, log) for p in plugins]
    route = Route("r", "1", PathPattern.parse("/*"), Chain(guards), 1.0)
    exchange = Exchange(lambda _key: route, ManualClock().monotonic, counts)
    found = await exchange.receive(
        RequestHeaders(Request(method=method, target="/"), "r@1", end=True)
    )
    assert isinstance(found, Immediate)
    return found


async def test_a_large_answer_is_cut_into_bounded_pieces() -> None:
    """Headers first, then bytes in order, the last piece says that it is the last."""
    large = await answer(Answers(size=LARGE))
    assert large.streamed
    head, *rest = [pb.ProcessingResponse.FromString(m) for m in encode(large)]
    names = {h.key: h.raw_value for h in _headers(head)}
    assert names["content-length"] == str(LARGE).encode()
    assert names["content-type"] == b"text/plain"
    pieces = [m.streamed_immediate_response.body_response for m in rest]
    assert max(len(piece.body) for piece in pieces) <= 64 << 10
    assert sum(len(piece.body) for piece in pieces) == LARGE
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def _headers(message: pb.ProcessingResponse) -> list[HeaderValue]:
    return list(message.streamed_immediate_response.headers_response.headers.headers)


async def test_head_is_answered_by_the_headers_alone() -> None:
    """They say the length of what GET is given, and that nothing follows."""
    (only,) = encode(await answer(Answers(size=LARGE), method="HEAD"))
    head = pb.ProcessingResponse.FromString(only)
    assert head.streamed_immediate_response.headers_response.end_of_stream
    names = {h.key: h.raw_value for h in _headers(head)}
    assert names["content-length"] == str(LARGE).encode()


async def test_what_can_not_be_streamed() -> None:
    """Two cookies, a route that buffers bodies, and what is small go at once."""
    assert not (await answer(Answers(size=LARGE, cookies=2))).streamed
    assert not (await answer(Answers(size=LARGE), Reads())).streamed
    assert not (await answer(Answers(size=100))).streamed
    assert (await answer(Answers(size=LARGE, cookies=1))).streamed


async def test_values_of_a_list_share_a_header() -> None:
    """The streamed form has one of each name."""
    made = await answer(Answers(size=LARGE, links=2))
    assert made.streamed
    head = pb.ProcessingResponse.FromString(encode(made)[0])
    links = [h.raw_value for h in _headers(head) if h.key == "link"]
    assert links == [b"<0>, <1>"]
