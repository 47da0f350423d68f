"""Calls over a socket, against a small server of the `h2` library."""

from __future__ import annotations

import asyncio
import gc
import gzip
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import pytest

from extproc.adapters.egress.blocks import NotSendable, block
from extproc.adapters.egress.caller import EgressCaller
from extproc.adapters.egress.came import Came
from extproc.adapters.http2.replies import Head
from extproc.adapters.timers import Timers
from extproc.core.errors import UpstreamFault
from extproc.core.room import Room
from tests.support.places import short_folder
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from extproc.adapters.egress.call import Call
    from extproc.core.answered import Answered


class Peer(asyncio.Protocol):
    """One connection of the server; what it does depends on the path."""

    made: list[Peer]

    def __init__(self, made: list[Peer]) -> None:
        made.append(self)
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.requests: list[dict[str, str]] = []
        self.reads: list[int] = []
        self.reset: list[int] = []
        self.went = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.h2.initiate_connection()
        transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        before = len(self.requests)
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.requests.append({str(n): str(v) for n, v in event.headers})
                self.answer(event.stream_id, self.requests[-1])
            elif isinstance(event, h2.events.StreamReset):
                self.reset.append(event.stream_id)
        self.reads.append(len(self.requests) - before)
        self.transport.write(self.h2.data_to_send())

    def late(self, stream: int, request: dict[str, str]) -> None:
        """Break an answer off at its time, as Envoy does once it has begun."""
        self.h2.send_headers(stream, [(":status", "200")])
        seconds = int(request["x-envoy-upstream-rq-timeout-ms"]) / 1000
        asyncio.get_running_loop().call_later(seconds, self.break_off, stream)

    def break_off(self, stream: int, _request: object = None) -> None:
        """Reset a stream."""
        self.h2.reset_stream(stream, 2)
        self.transport.write(self.h2.data_to_send())

    def answer(self, stream: int, request: dict[str, str]) -> None:
        path = request[":path"]
        if path in NEVER:
            NEVER[path](self, stream, request)
            return
        if path == "/refused" and not self.went:
            self.went = True
            self.h2.reset_stream(stream, 7)
            return
        if path == "/away":
            self.h2.close_connection(last_stream_id=0)
            return
        if path == "/die":
            self.transport.abort()
            return
        status, fields, body = "200", [], path.encode()
        if path == "/large":
            body = b"x" * 10_001
        elif path == "/headers":
            fields = [(f"h{n}", "v" * 1000) for n in range(40)]
        elif path == "/bomb":
            fields, body = [("content-encoding", "gzip")], gzip.compress(b"x" * 10_000_000)
        elif path == "/status":
            status = "404"
        self.h2.send_headers(stream, [(":status", status), *fields])
        self.h2.send_data(stream, body, end_stream=True)


def hang(_peer: Peer, _stream: int, _request: object) -> None:
    """Say nothing."""


def some(peer: Peer, stream: int, _request: object) -> None:
    """Send 6000 bytes of an answer, and no end."""
    peer.h2.send_headers(stream, [(":status", "200")])
    peer.h2.send_data(stream, b"x" * 6000)


def broken(peer: Peer, stream: int, request: object) -> None:
    """The same, but it breaks off."""
    some(peer, stream, request)
    peer.break_off(stream)


NEVER: dict[str, Callable[[Peer, int, dict[str, str]], None]] = {
    "/hang": hang,
    "/some": some,
    "/broken": broken,
    "/reset": Peer.break_off,
    "/late": Peer.late,
}


class Place:
    """A server on a socket and a caller to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.peers: list[Peer] = []
        self.caller = EgressCaller(f"unix:{path}", 10_000)

    async def get(self, target: str, **options: Any) -> bytes:
        """Make one call."""
        return (await self.caller.call("up", "GET", target, **options)).body


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """Run both; afterwards nothing is left of either."""
    with short_folder() as folder:
        made = Place(f"{folder}/s")
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Peer(made.peers), made.path)
        yield made
        await made.caller.close()
        server.close()
    await until_async(lambda: not [t for t in asyncio.all_tasks() if "egress" in repr(t)])


async def test_calls_of_one_turn_leave_together(place: Place) -> None:
    """In one read of the server; each has its own answer."""
    await place.get("/first")
    calls = [place.caller.call("up", "GET", f"/{n}") for n in range(20)]
    assert [answer.body for answer in await asyncio.gather(*calls)] == [
        f"/{n}".encode() for n in range(20)
    ]
    assert 20 in place.peers[0].reads
    assert len(place.peers) == 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/reset", "protocol"),
        ("/die", "connect"),
        ("/large", "too_large"),
        ("/headers", "too_large"),
        ("/bomb", "too_large"),
        ("/hang", "timeout"),
        ("/late", "timeout"),
        ("/away", "connect"),
    ],
)
async def test_what_can_go_wrong(place: Place, target: str, reason: str) -> None:
    """Each has its reason; the next call is answered."""
    with pytest.raises(UpstreamFault) as caught:
        await place.get(target, timeout=0.3)
    assert caught.value.reason == reason
    assert await place.get("/after") == b"/after"


async def test_a_cancelled_call_is_cancelled_there(place: Place) -> None:
    """By a reset; so is one whose time is over."""
    call = place.caller.call("up", "GET", "/hang")
    other = place.caller.call("up", "GET", "/hang", timeout=0.05)
    await until_async(lambda: place.peers and len(place.peers[0].requests) == 2)
    call.cancel()
    with pytest.raises(UpstreamFault):
        await other
    await until_async(lambda: len(place.peers[0].reset) == 2)
    task = asyncio.ensure_future(place.get("/hang"))
    await until_async(lambda: len(place.peers[0].requests) == 3)
    task.cancel()
    await until_async(lambda: len(place.peers[0].reset) == 3)


async def test_a_call_is_told_of_like_a_future(place: Place) -> None:
    """Before, with an answer, with a fault, and given up; two may wait for one."""
    call = place.caller.call("up", "GET", "/x")
    assert not call.done()
    for ask in (call.result, call.exception):
        with pytest.raises(asyncio.InvalidStateError):
            ask()
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(_of(call), _of(call))
    assert first is second is call.result() is await call
    assert first.body == b"/x"
    assert call.done()
    assert call.exception() is None
    assert not call.cancel()  # what is done isn't given up
    fault = place.caller.call("up", "GET", "/die")
    for _ in range(2):
        with pytest.raises(UpstreamFault):
            await fault
    assert isinstance(fault.exception(), UpstreamFault)
    with pytest.raises(UpstreamFault):
        fault.result()


async def test_who_gives_a_call_up_ends_it_for_all(place: Place) -> None:
    """Whoever awaits it is cancelled; who was to be told promptly isn't."""
    told: list[Call] = []
    call = place.caller.call("up", "GET", "/hang")
    call.promptly(told.append)
    tasks = [asyncio.create_task(_of(call)) for _ in range(2)]
    await until_async(lambda: place.peers and place.peers[0].requests)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in done] == [asyncio.CancelledError] * 2
    await until_async(lambda: len(place.peers[0].reset) == 1)
    assert call.done()
    for ask in (call.result, call.exception):
        with pytest.raises(asyncio.CancelledError):
            ask()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert told == []


async def _of(call: Call) -> Answered:
    return await call


async def test_what_arrives_at_once_has_one_room(place: Place) -> None:
    """Each is small enough; what doesn't fit with the others fails, and gives its share back."""
    room = Room(10_000)
    first = place.caller.call("up", "GET", "/some", room=room)
    await until_async(lambda: room.left == 4000)
    with pytest.raises(UpstreamFault, match="10000 bytes together") as caught:
        await place.get("/some", room=room)
    assert caught.value.reason == "too_large"
    assert room.left == 4000
    assert await place.get("/fits", room=room) == b"/fits"
    assert room.left == 3995  # what was answered is held
    first.cancel()
    assert room.left == 9995


@pytest.mark.parametrize("target", ["/broken", "/late", "/die", "/large", "/bomb"])
async def test_what_is_let_go_makes_room(place: Place, target: str) -> None:
    """However a call fails."""
    room = Room(100_000)
    with pytest.raises(UpstreamFault):
        await place.get(target, room=room, timeout=0.3)
    assert room.left == 100_000


async def test_what_was_never_looked_at_is_asked_once_more(place: Place) -> None:
    """REFUSED_STREAM says so (RFC 9113 section 8.7)."""
    assert await place.get("/refused") == b"/refused"
    assert len(place.peers[0].requests) == 2


async def test_what_waits_for_one_answer_breaks_no_other(place: Place) -> None:
    """A link is everybody's: a callback that fails is its own trouble."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    def fails(_call: Call) -> None:
        raise ZeroDivisionError

    calls = [place.caller.call("up", "GET", f"/{number}", timeout=5.0) for number in range(3)]
    calls[1].promptly(fails)
    answers = [await call for call in calls]
    assert [answer.body for answer in answers] == [b"/0", b"/1", b"/2"]
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    assert len(place.peers) == 1


async def test_headers_that_would_end_the_connection_are_not_sent(place: Place) -> None:
    """Everybody's calls are on it: framing and what is between neighbours is never a call's."""
    names = (
        "content-length",
        "te",
        "trailer",
        "connection",
        "transfer-encoding",
        "upgrade",
        "host",
    )
    calls = [place.caller.call("up", "GET", f"/{name}", headers=[(name, "3")]) for name in names]
    calls.append(place.caller.call("up", "POST", "/grpc", headers=[("te", "trailers")], body=b"x"))
    assert [(await call).status for call in calls] == [200] * len(calls)
    (peer,) = place.peers
    assert [set(names) & request.keys() for request in peer.requests] == [set()] * 7 + [
        {"te", "content-length"}
    ]
    assert peer.requests[-1]["content-length"] == "1"


async def test_a_call_leaves_no_cycle(place: Place) -> None:
    """What it held is freed at once; the collector has nothing to find."""
    await place.get("/first")
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            known: list[Call] = []  # as whoever waits for a call knows it
            call = place.caller.call("up", "GET", f"/{number}", timeout=5.0)
            known.append(call)
            call.promptly(lambda done, known=known: known.index(done))  # type: ignore[misc]  # known is bound now
            await call
            del call, known
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_headers_as_they_came() -> None:
    """What isn't put into order reads and is changed like what is."""
    head = Head(200, (("a", "1"), ("b", "2")), names=frozenset({"a", "b"}))
    came = Came(head.followed_by([("a", "3")]))
    assert came.has_any(("b",))
    assert not came.has_any(("c",))
    assert came.get("A") == "1, 3"
    assert "c" not in came
    came["c"] = "4"
    del came["b"]
    assert came.has_any(("c",))
    assert not came.has_any(("b",))
    assert list(came.items()) == [("a", "1"), ("a", "3"), ("c", "4")]


async def test_nobody_listens() -> None:
    """Is a failure to connect; the server may come later."""
    with short_folder() as folder:
        caller = EgressCaller(f"unix:{folder}/s")
        with pytest.raises(UpstreamFault) as caught:
            await caller.call("up", "GET", "/")
        assert caught.value.reason == "connect"
        made: list[Peer] = []
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Peer(made), f"{folder}/s")
        assert (await caller.call("up", "GET", "/x")).body == b"/x"
        await caller.close()
        server.close()


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a b", ()),
        ("/a\r\nx: y", ()),
        ("a", ()),
        ("/é", ()),
        ("/", (("a", "b\r\nc: d"),)),
        ("/", (("a b", "c"),)),
        ("/", (("a", " c"),)),
    ],
)
def test_b6_b7_what_is_no_request(target: str, headers: Any) -> None:
    """B6, B7: a blank or a line break in a target, a name or a value is never written."""
    with pytest.raises((NotSendable, UnicodeError)):
        block("up", "GET", target, headers, 0, None)


async def test_timers_ring_once_and_in_time() -> None:
    """Dropped ones don't ring."""
    timers = Timers(asyncio.get_running_loop())
    rung: list[int] = []
    entries = [timers.add(0.02 * (n % 4), lambda n=n: rung.append(n)) for n in range(12)]  # type: ignore[misc]  # n is bound now
    timers.drop(entries[5])
    await until_async(lambda: len(rung) == 11)
    assert sorted(rung) == [n for n in range(12) if n != 5]
    assert [n % 4 for n in rung] == sorted(n % 4 for n in rung)
    timers.add(5.0, lambda: rung.append(99))
    timers.close()
