"""Connections of a real local server over real sockets: limits, back-pressure, ends."""

from __future__ import annotations

import asyncio
import gc
import socket
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from extproc.adapters.http2 import frames
from extproc.adapters.http2.errors import ErrorCode
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.frames import Kind, frame
from extproc.adapters.http2.limits import Limits
from extproc.adapters.local import peer as peer_module
from extproc.adapters.local import server as server_module
from extproc.adapters.local.framing import framed
from extproc.adapters.local.server import LocalServer, check_address
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.wire import PROCESS
from extproc.adapters.wire_authz import CHECK
from extproc.core.errors import ConfigFault
from tests.http2.peers import EMPTIED, HELLO, cut, data, goaway, ping
from tests.http2.peers import headers as opened
from tests.local.services import Running, check_request, deciding, headers, piece, running
from tests.support.compiled import interpreted
from tests.support.places import short_folder
from tests.support.waiting import until_async


def _block_of(method: str) -> bytes:
    return literal(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method.encode()),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
    )


BLOCK = EMPTIED + _block_of(PROCESS)
CANCEL = frames.LONG.pack(ErrorCode.CANCEL)


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server look at its clock often, so that limits of time can be short here."""
    monkeypatch.setattr(server_module, "_TICK", 0.02)


class Raw:
    """A peer that writes what it likes, on a plain socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Task[None] | None = None
        self._heard = b""

    @classmethod
    async def to(cls, place: Running, hello: bytes = HELLO) -> Raw:
        """Connect."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)  # noqa: FBT003 - the library's
        await asyncio.get_running_loop().sock_connect(sock, place.address.removeprefix("unix:"))
        raw = cls(sock)
        place.channels.append(raw)
        raw.write(hello)
        return raw

    def write(self, sent: bytes) -> None:
        """Write, beside whatever else happens."""
        before = self._writing

        async def write() -> None:
            if before is not None:
                await before
            with suppress(OSError):
                await self._loop.sock_sendall(self._socket, sent)

        self._writing = asyncio.ensure_future(write())

    async def _more(self) -> bytes:
        try:
            return await asyncio.wait_for(self._loop.sock_recv(self._socket, 1 << 16), 10)
        except ConnectionError:
            return b""

    async def until(self, kind: int, stream: int = 0) -> bytes:
        """Read until such a frame came; returns its payload."""
        while True:
            position = 0
            while len(self._heard) - position >= frames.HEADER_SIZE:
                word, _, on = frames.HEADER.unpack_from(self._heard, position)
                of, end = word & 255, position + frames.HEADER_SIZE + (word >> 8)
                if end > len(self._heard):
                    break
                payload, position = self._heard[position + frames.HEADER_SIZE : end], end
                if (of, on) == (kind, stream):
                    self._heard = self._heard[position:]
                    return payload
            self._heard = self._heard[position:]
            more = await self._more()
            assert more, "the server closed"
            self._heard += more

    async def closed(self) -> bytes:
        """Read to the end; returns everything."""
        while more := await self._more():
            self._heard += more
        return self._heard

    async def close(self) -> None:
        """Go away."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait((self._writing,))
        self._socket.close()


def exchange(stream: int, path: str = "/a") -> bytes:
    """Return the frames that begin an exchange."""
    message = framed(headers(path).SerializeToString())
    return opened(stream, block=BLOCK) + data(stream, message)


async def until_trailers(raw: Raw, stream: int) -> bytes:
    """Read a response to its end; returns the trailers."""
    await raw.until(Kind.HEADERS, stream)
    return await raw.until(Kind.HEADERS, stream)


async def answered(place: Running) -> bool:
    """Say whether another connection is served."""
    call = place.process()
    await call.write(headers("/a"))
    return bool(await call.read())


def peers(place: Running) -> list[Any]:
    """Return the server's connections."""
    return list(place.server._peers)


async def test_all_answers_of_a_read_leave_in_one_write() -> None:
    """However many exchanges came with it."""
    async with running("local") as place:
        raw = await Raw.to(place)
        await raw.until(Kind.SETTINGS)
        writes = []
        [peer] = peers(place)
        write = peer._transport.write

        class Counting:
            def write(self, sent: bytes) -> None:
                writes.append(sent)
                write(sent)

            def __getattr__(self, name: str) -> Any:
                return getattr(peer._transport_itself, name)

        peer._transport_itself, peer._transport = peer._transport, Counting()
        raw.write(b"".join(exchange(2 * n + 1) for n in range(20)))
        await raw.until(Kind.DATA, 39)
        assert len(writes) == 1
        assert not [task for task in asyncio.all_tasks() if "_guarded" in repr(task)]


async def test_a_peer_that_doesn_t_read() -> None:
    """Reading stops, so what is held for it stays bounded; in the end it is dropped."""
    async with running("local", Limits(send_within=1.0)) as place:
        window = frames.settings({4: 2**31 - 1}) + frames.window_update(0, 2**30)
        deaf = await Raw.to(place, HELLO + window)
        deaf.write(b"".join(exchange(2 * n + 1, "/large") for n in range(300)))
        await until_async(lambda: bool(peers(place)) and peers(place)[0]._blocked_since)
        assert peers(place)[0]._transport.get_write_buffer_size() < 10_000_000
        assert await answered(place)
        await until_async(lambda: "connection dropped" in [e for _, e, _ in place.log.events])
        await until_async(lambda: len(peers(place)) == 1)


async def test_back_pressure_ends_with_the_congestion() -> None:
    """A peer that reads late gets everything, also what it asked for in the same read."""
    async with running("local") as place:
        raw = await Raw.to(place, HELLO + frames.settings({4: 2**31 - 1}))
        raw.write(frames.window_update(0, 2**30))
        asked = b"".join(
            exchange(2 * n + 1, "/large") + data(2 * n + 1, end=True) for n in range(5)
        )
        raw.write(asked + exchange(11))
        await until_async(lambda: bool(peers(place)) and peers(place)[0]._blocked_since)
        for number in range(5):
            assert b"grpc-status\x010" in await until_trailers(raw, 2 * number + 1)
        assert await raw.until(Kind.DATA, 11)
        raw.write(ping())
        assert await raw.until(Kind.PING) == b"12345678"


async def test_a_message_that_doesn_t_end() -> None:
    """Slow senders lose their call, not their connection."""
    async with running("local", Limits(message_within=0.2)) as place:
        raw = await Raw.to(place)
        raw.write(opened(1, block=BLOCK) + data(1, b"\0\0\0\1\0" + b"x" * 10))
        block = await raw.until(Kind.HEADERS, 1)
        assert b"grpc-status\x014" in block
        raw.write(exchange(3))
        assert await raw.until(Kind.DATA, 3)


def _holds(peer: Any, size: int) -> bool:
    return bool(peer.held == size)


async def test_a_message_that_comes_a_byte_at_a_time() -> None:
    """It has as long as one that stops: a byte buys no more time."""
    async with running("local") as place:
        raw = await Raw.to(place)
        raw.write(opened(1, block=BLOCK) + data(1, b"\0\0\0\x10\0"))
        await until_async(lambda: bool(peers(place)) and peers(place)[0].held == 5)
        [peer] = peers(place)
        for came in range(6, 9):
            place.clock.ahead += 9.0
            peer.tick()
            raw.write(data(1, b"x"))
            await until_async(partial(_holds, peer, came))
        place.clock.ahead += 4.0
        assert b"grpc-status\x014" in await raw.until(Kind.HEADERS, 1)
        raw.write(exchange(3))
        assert await raw.until(Kind.DATA, 3)


async def test_messages_in_pieces_one_after_another() -> None:
    """Each has its own time, however long the call lasts."""
    async with running("local") as place:
        raw = await Raw.to(place)
        first = framed(headers("/", "pieces", end=False).SerializeToString())
        message = framed(piece(b"x").SerializeToString())
        raw.write(opened(1, block=BLOCK) + data(1, first + message[:4]))
        assert await raw.until(Kind.DATA, 1)
        [peer] = peers(place)
        for _ in range(5):
            place.clock.ahead += 20.0
            peer.tick()
            raw.write(data(1, message[4:] + message[:4]))
            assert await raw.until(Kind.DATA, 1)


async def test_a_call_without_its_first_message() -> None:
    """Streams that are opened and left are ended; those that said something stay."""
    async with running("local", Limits(message_within=0.2)) as place:
        raw = await Raw.to(place)
        raw.write(exchange(1) + b"".join(opened(2 * n + 3, block=BLOCK) for n in range(20)))
        for number in range(20):
            assert b"grpc-status\x014" in await raw.until(Kind.HEADERS, 2 * number + 3)
        assert list(peers(place)[0].connection.streams) == [1]


async def test_a_call_that_sends_nothing_may_last() -> None:
    """An exchange waits for its upstream as long as that takes."""
    async with running("local", Limits(message_within=0.1, idle=0.1)) as place:
        raw = await Raw.to(place)
        raw.write(exchange(1))
        assert await raw.until(Kind.DATA, 1)
        await asyncio.sleep(0.4)
        raw.write(data(1, end=True))
        assert b"grpc-status\x010" in await raw.until(Kind.HEADERS, 1)


async def test_a_clock_that_is_looked_at_between_accepting_and_making() -> None:
    """A connection that isn't made yet is nobody's; no limit of time ends with it."""
    async with running("local", Limits(handshake=0.2)) as place:
        place.server._peer()  # as asyncio does, some turns of the loop before it is made
        place.server._tick()
        mute = await Raw.to(place, b"")
        assert goaway(await mute.closed()) == (0, ErrorCode.SETTINGS_TIMEOUT)
        assert place.log.events[:-1] == []


@interpreted
async def test_a_defect_in_one_connection_s_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends that connection, is said, and the limits of the others stay."""
    async with running("local", Limits(handshake=0.3)) as place:
        raw = await Raw.to(place)
        raw.write(exchange(1))
        assert await raw.until(Kind.DATA, 1)
        [peer] = peers(place)
        monkeypatch.setattr(peer.connection, "tick", None)
        await raw.closed()
        assert place.log.events[0][:2] == ("error", "connection dropped")
        mute = await Raw.to(place, b"")
        assert goaway(await mute.closed()) == (0, ErrorCode.SETTINGS_TIMEOUT)


async def test_a_read_that_takes_long_lets_others_have_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sends without an end is read a piece at a time; nothing is lost by it."""
    monkeypatch.setattr(peer_module, "_LONG", -1.0)
    async with running("local") as place:
        raw = await Raw.to(place)
        raw.write(b"".join(exchange(2 * number + 1) for number in range(200)))
        assert await raw.until(Kind.DATA, 399)
        [peer] = peers(place)
        turns = 0
        async with asyncio.timeout(10):
            while peer._resting:
                turns += 1
                await asyncio.sleep(0)
        raw.write(exchange(401))
        assert await raw.until(Kind.DATA, 401)


async def test_slow_and_idle_connections_end() -> None:
    """No handshake, a frame that doesn't end, and nothing at all."""
    limits = Limits(handshake=0.3, frame_within=0.3, idle=0.3)
    async with running("local", limits) as place:
        mute = await Raw.to(place, b"")
        slow = await Raw.to(place, HELLO + ping()[:12])
        idle = await Raw.to(place)
        assert goaway(await mute.closed()) == (0, ErrorCode.SETTINGS_TIMEOUT)
        assert goaway(await slow.closed()) == (0, ErrorCode.ENHANCE_YOUR_CALM)
        await idle.until(Kind.GOAWAY)
        idle.write(frame(Kind.PING, 1, 0, await idle.until(Kind.PING)))
        assert goaway(await idle.closed()) == (0, ErrorCode.NO_ERROR)
        assert peers(place) == []


async def test_a_message_larger_than_allowed() -> None:
    """RESOURCE_EXHAUSTED, at its length."""
    async with running("local", Limits(message=1000)) as place:
        raw = await Raw.to(place)
        raw.write(opened(1, block=BLOCK) + data(1, b"\0\0\0\x03\xe9"))
        assert b"grpc-status\x018" in await raw.until(Kind.HEADERS, 1)
        raw.write(exchange(3))
        assert await raw.until(Kind.DATA, 3)


async def test_what_is_held_for_all_calls_is_bounded() -> None:
    """Messages that begin and don't end, on many streams: each alone is allowed."""
    async with running("local", Limits(message=50_000, held=100_000)) as place:
        raw = await Raw.to(place)
        part = b"\0" + (40_000).to_bytes(4, "big") + b"x" * 16_000
        for number in range(7):
            stream = 2 * number + 1
            raw.write(opened(stream, block=BLOCK) + data(stream, part))
        assert b"grpc-status\x018" in await raw.until(Kind.HEADERS, 13)
        [peer] = peers(place)
        assert peer.held == 6 * (16_000 + 5)
        raw.write(frame(Kind.RST_STREAM, 0, 1, CANCEL) + exchange(15))
        assert await raw.until(Kind.DATA, 15)
        assert peer.held == 5 * (16_000 + 5)
        await raw.close()
        await until_async(lambda: peer.held == 0)


async def test_what_is_behind_the_last_message_of_a_call_is_not_held() -> None:
    """A message that ends the call, and the beginning of another in the same bytes."""
    async with running("local") as place:
        raw = await Raw.to(place)
        out_of_turn = framed(piece(b"x").SerializeToString())
        raw.write(opened(1, block=BLOCK) + data(1, out_of_turn + b"\0\0\0\1\0half"))
        assert b"grpc-status\x019" in await raw.until(Kind.HEADERS, 1)
        assert [peer.held for peer in peers(place)] == [0]


async def test_queued_messages_are_not_given_credit_for() -> None:
    """Behind a hook that waits: the peer stops at its window, and goes on when it is taken."""
    async with running("local", Limits(stream_window=100_000)) as place:
        call = place.process()
        await call.write(headers("/wait"))
        await until_async(lambda: place.plugins["plain"].waiting == 1)
        raw = await Raw.to(place)
        message = headers("/wait").SerializeToString()
        raw.write(opened(1, block=BLOCK) + data(1, framed(message)))
        await until_async(lambda: place.plugins["plain"].waiting == 2)
        for _ in range(7):
            raw.write(data(1, framed(b"x" * 16_000)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.until(Kind.WINDOW_UPDATE, 1), 0.3)


async def test_empty_messages_behind_a_hook_that_waits() -> None:
    """They count for what they take: a frame holds thousands."""
    async with running("local", Limits(held=100_000)) as place:
        raw = await Raw.to(place)
        raw.write(opened(1, block=BLOCK) + data(1, framed(headers("/wait").SerializeToString())))
        await until_async(lambda: place.plugins["plain"].waiting == 1)
        raw.write(data(1, framed(b"") * 1_000))
        [peer] = peers(place)
        await until_async(lambda: peer.held == 1_000 * (5 + 64))
        raw.write(data(1, framed(b"") * 1_000))
        assert b"grpc-status\x018" in await raw.until(Kind.HEADERS, 1)
        assert peer.held == 0
        raw.write(exchange(3))
        assert await raw.until(Kind.DATA, 3)


async def test_too_many_connections() -> None:
    """The one too many is told so; when one ends there is room again."""
    async with running("local", most_connections=2) as place:
        first, second = await Raw.to(place), await Raw.to(place)
        for raw in (first, second):
            await raw.until(Kind.SETTINGS)
        third = await Raw.to(place)
        assert goaway(await third.closed()) == (0, ErrorCode.ENHANCE_YOUR_CALM)
        await first.close()
        await until_async(lambda: len(peers(place)) == 1)
        assert await answered(place)


ATTACKS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "rubbish": b"\0\xff" * 5000,
    "rapid reset": b"".join(
        opened(2 * n + 1, block=BLOCK) + frame(Kind.RST_STREAM, 0, 2 * n + 1, CANCEL)
        for n in range(25_000)
    ),
    "ping flood": ping() * 50_000,
    "settings flood": frames.settings({4: 65_535}) * 20_000,
    "continuation flood": frame(Kind.HEADERS, 0, 1, b"") + frame(9, 0, 1, b"") * 50_000,
    "empty data": opened(1, block=BLOCK) + data(1) * 50_000,
    "many streams": b"".join(opened(2 * n + 1, block=BLOCK) for n in range(30_000)),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_others_don_t_notice_an_attack(attack: bytes) -> None:
    """The attacker is told to go; a connection beside it is served before, during and after."""
    async with running("local") as place:
        honest = await Raw.to(place)
        honest.write(exchange(1))
        assert await honest.until(Kind.DATA, 1)
        hello = b"" if attack.startswith((b"GET", b"\0\xff")) else HELLO
        raw = await Raw.to(place, hello)
        raw.write(attack)
        honest.write(exchange(3))
        assert await honest.until(Kind.DATA, 3)
        assert goaway(await raw.closed()) is not None
        await until_async(lambda: len(peers(place)) == 1)
        assert peers(place)[0].connection.streams.keys() == {1, 3}
        honest.write(exchange(5))
        assert await honest.until(Kind.DATA, 5)


async def test_resets_in_the_same_read_as_the_message() -> None:
    """D2: the hook is ended before its task could begin; nothing is left waiting."""
    async with running("local") as place:
        raw = await Raw.to(place)
        plugin = place.plugins["plain"]
        for number in range(50):
            stream = 2 * number + 1
            raw.write(exchange(stream, "/wait") + frame(Kind.RST_STREAM, 0, stream, CANCEL))
        raw.write(exchange(101))
        assert await raw.until(Kind.DATA, 101)
        await until_async(lambda: plugin.waiting == 0 and len(plugin.outcomes) == 50)
        gc.collect()
        left = [task for task in asyncio.all_tasks() if "calls.py" in repr(task)]
        assert not left
        guards = place.server._deciding.routes.find("plain@v").chain.guards
        assert [guard.waiting for guard in guards] == [0]


async def test_a_decision_that_nobody_heard() -> None:
    """A reset in the same read takes it back; the mere end of what a peer says doesn't."""
    async with running("local") as place:
        raw = await Raw.to(place)
        outcomes = place.plugins["plain"].outcomes
        reset = frame(Kind.RST_STREAM, 0, 1, CANCEL)
        raw.write(exchange(1) + data(1, b"", end=True) + reset)
        raw.write(exchange(3) + data(3, b"", end=True))
        assert b"grpc-status" in await until_trailers(raw, 3)
        raw.write(exchange(5))
        assert await raw.until(Kind.DATA, 5)
        raw.write(data(5, b"", end=True) + frame(Kind.RST_STREAM, 0, 5, CANCEL))
        await until_async(lambda: len(outcomes) == 3)
        assert [outcome.decision for outcome in outcomes] == ["", "allow", "allow"]


async def test_a_status_that_nobody_heard() -> None:
    """The decision was told with an earlier answer, and stands."""
    response = pb.ProcessingRequest()
    response.response_headers.headers.headers.add(key=":status", raw_value=b"201")
    response.response_headers.end_of_stream = True
    async with running("local") as place:
        raw = await Raw.to(place)
        outcomes = place.plugins["plain"].outcomes
        for stream, reset in ((1, frame(Kind.RST_STREAM, 0, 1, CANCEL)), (3, b"")):
            raw.write(exchange(stream))
            assert await raw.until(Kind.DATA, stream)
            raw.write(data(stream, framed(response.SerializeToString())) + reset)
        assert await raw.until(Kind.DATA, 3)
        raw.write(data(3, b"", end=True))
        await until_async(lambda: len(outcomes) == 2)
        assert [(one.decision, one.status) for one in outcomes] == [("allow", None), ("allow", 201)]


@pytest.mark.parametrize("kind", ["Process", "Check"])
async def test_a_reset_of_what_waits_at_its_end(kind: str) -> None:
    """The hook is cancelled, and what it and `on_finish` wait for then is awaited."""
    async with running("local") as place:
        raw = await Raw.to(place)
        plugin = place.plugins["plain"]
        block = EMPTIED + _block_of(CHECK)
        for number in range(5):
            stream = 2 * number + 1
            begun = exchange(stream, "/linger")
            if kind == "Check":
                message = framed(check_request("/linger"))
                begun = opened(stream, block=block) + data(stream, message, end=True)
            raw.write(begun + frame(Kind.RST_STREAM, 0, stream, CANCEL))
        await until_async(lambda: plugin.cleaned == len(plugin.outcomes) == 5)
        assert (plugin.waiting, plugin.cancelled) == (0, 5)
        assert place.log.events == []


async def test_the_end_tells_the_peer_first() -> None:
    """GOAWAY, what runs is answered, then the connection closes."""
    async with running("local") as place:
        raw = await Raw.to(place)
        raw.write(exchange(1, "/wait"))
        await until_async(lambda: place.plugins["plain"].waiting == 1)
        stopping = asyncio.ensure_future(place.server.stop(10.0))
        assert await raw.until(Kind.GOAWAY)
        probe = await raw.until(Kind.PING)
        raw.write(exchange(3) + frame(Kind.PING, 1, 0, probe))
        assert await raw.until(Kind.DATA, 3), "it was on its way"
        raw.write(data(3, end=True))
        place.plugins["plain"].let_go.set()
        assert await raw.until(Kind.DATA, 1)
        assert not stopping.done()
        raw.write(data(1, end=True))
        await raw.closed()
        await asyncio.wait_for(stopping, 5)


async def test_the_end_has_an_end() -> None:
    """A call that doesn't finish within the grace is cut off."""
    async with running("local") as place:
        raw = await Raw.to(place)
        raw.write(exchange(1, "/wait"))
        await until_async(lambda: place.plugins["plain"].waiting == 1)
        await asyncio.wait_for(place.server.stop(0.3), 5)
        await until_async(lambda: place.plugins["plain"].waiting == 0)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.com:1", "10.0.0.1:0", ":1"]
)
def test_other_hosts_are_not_served(address: str) -> None:
    """Refused with the reason and the alternative."""
    with pytest.raises(ConfigFault, match="grpcio"):
        check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.0.0.2:0"])
async def test_loopback_is_served(address: str) -> None:
    """With the port that was chosen."""
    server = LocalServer(deciding()[0])
    try:
        bound = server.listen(address)
    except OSError as error:
        pytest.skip(f"this machine has no {address}: {error}")
    await server.start()
    async with grpc.aio.insecure_channel(bound.replace("localhost", "127.0.0.1")) as channel:
        await channel.channel_ready()
    await server.stop(0.5)


async def test_a_path_left_behind_is_taken_over_and_one_in_use_is_not() -> None:
    """Two servers on one path would each get some of the exchanges."""
    with short_folder() as folder:
        address = f"unix:{folder}/s"
        left = socket.socket(socket.AF_UNIX)
        left.bind(f"{folder}/s")
        left.close()
        first = LocalServer(deciding()[0])
        first.listen(address)
        await first.start()
        with pytest.raises(OSError, match="in use"):
            LocalServer(deciding()[0]).listen(address)
        assert stat.S_ISSOCK(Path(f"{folder}/s").stat().st_mode)
        await first.stop(0.5)


def test_the_tables_know_each_other() -> None:
    """Frames that the driver sends are cut by the tests as by a peer."""
    assert list(cut(ping())) == [(Kind.PING, 0, 0, b"12345678")]
