"""Each limit is attacked: the peer gets the right error, and a peer within it doesn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.adapters.http2 import frames
from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.errors import ErrorCode, Violation
from extproc.adapters.http2.events import ConnectionEnded, RequestCame, StreamEnded
from extproc.adapters.http2.fields import Fields, literal
from extproc.adapters.http2.frames import Flag, Kind, frame
from extproc.adapters.http2.limits import Budget, Limits
from tests.http2.peers import (
    BLOCK,
    EMPTIED,
    HELLO,
    REQUEST,
    as_they_are,
    data,
    fresh,
    goaway,
    headers,
    ping,
    resets,
)

LONG = frames.LONG.pack
E, V = ErrorCode, Violation
CANCEL = LONG(E.CANCEL)


def ended(connection: Connection[Fields], sent: bytes, now: float = 0.0) -> Violation | None:
    """Return what ended the connection, if anything did."""
    events = connection.receive(sent, now)
    last = events[-1] if events else None
    return last.violation if isinstance(last, ConnectionEnded) else None


def test_concurrent_streams() -> None:
    """The one too many is refused (it may be tried again elsewhere); the others stay."""
    connection = fresh(Limits(streams=3))
    connection.receive(b"".join(headers(2 * n + 1) for n in range(4)), 0.0)
    assert resets(connection.out.take()) == [(7, E.REFUSED_STREAM)]
    assert len(connection.streams) == 3
    connection.receive(frame(Kind.RST_STREAM, 0, 1, CANCEL) + headers(9), 0.0)
    assert sorted(connection.streams) == [3, 5, 9]


@pytest.mark.parametrize("pieces", [1, 3])
def test_header_block_size(pieces: int) -> None:
    """Compressed, in one frame or in several."""
    limits = Limits(header_block=1000, header_list=100_000)
    block = EMPTIED + literal([*REQUEST, (b"x", b"v" * 1000)])
    size = len(block) // pieces + 1
    sent = frame(Kind.HEADERS, 0, 1, block[:size])
    for at in range(size, len(block), size):
        sent += frame(Kind.CONTINUATION, 0, 1, block[at : at + size])
    sent += frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, b"")
    assert ended(fresh(limits), sent) is V.BLOCK_TOO_LARGE
    assert ended(fresh(replace(limits, header_block=1300)), sent) is None


def test_hpack_bomb() -> None:
    """Few bytes that mean many: before the table is known to be empty it can be used so."""
    bomb = literal(REQUEST[:4]) + b"\x40\x01x\x7f\x81\x1e" + b"v" * 4000 + b"\xbe" * 1000
    connection: Connection[Fields] = Connection(as_they_are, Limits(), 0.0)
    connection.receive(frames.PREFACE + frames.settings({}), 0.0)
    assert len(bomb) < 6000
    assert ended(connection, headers(1, block=bomb)) is V.FIELDS_TOO_LARGE


def test_header_fields() -> None:
    """How many there are."""
    limits = Limits(header_fields=20)
    many = EMPTIED + literal([*REQUEST, *((b"a", b"") for _ in range(15))])
    connection = fresh(limits)
    assert ended(connection, headers(1, block=many)) is None
    assert resets(connection.out.take()) == [(1, E.ENHANCE_YOUR_CALM)]
    assert list(connection.streams) == []
    connection = fresh(replace(limits, header_fields=21))
    assert ended(connection, headers(1, block=many)) is None
    assert list(connection.streams) == [1]


def test_a_header_list_larger_than_announced() -> None:
    """Its stream ends, and later blocks mean what they meant; far above that the connection."""
    large = literal(REQUEST) + b"\x40\x01n\x01v" + literal([(b"x", b"v" * 8000)] * 5)
    connection: Connection[Fields] = Connection(as_they_are, Limits(), 0.0)
    connection.receive(frames.PREFACE + frames.settings({}), 0.0)
    connection.receive(headers(1, block=literal(REQUEST)), 0.0)
    sent = frame(Kind.HEADERS, Flag.END_STREAM, 3, large[:16_000])
    sent += frame(Kind.CONTINUATION, 0, 3, large[16_000:32_000])
    sent += frame(Kind.CONTINUATION, Flag.END_HEADERS, 3, large[32_000:])
    assert ended(connection, sent) is None
    assert resets(connection.out.take()) == [(3, E.ENHANCE_YOUR_CALM)]
    later = headers(5, block=literal(REQUEST) + b"\xbe")  # the newest of the table: n is v
    [event] = connection.receive(later, 0.0)
    assert isinstance(event, RequestCame)
    assert event.head[-1] == (b"n", b"v")
    assert list(connection.streams) == [1, 5]


@pytest.mark.parametrize("payload", [b"", b"\0"])
def test_continuation_flood(payload: bytes) -> None:
    """CVE-2024-30255: frames that carry (next to) nothing and never end the block."""
    connection = fresh(Limits(continuations=8))
    sent = frame(Kind.HEADERS, 0, 1, BLOCK)
    sent += frame(Kind.CONTINUATION, 0, 1, payload) * 9
    assert ended(connection, sent) is V.TOO_MANY_CONTINUATIONS
    assert connection.streams == {}


def rapid(connection: Connection[Fields], count: int, *, answered: bool, now: float) -> bytes:
    """Open streams and reset each at once, before or after its answer; returns what was sent."""
    sent = b""
    for _ in range(count):
        stream = connection._table.last + 2 if connection._table.last else 1
        for event in connection.receive(headers(stream), now):
            if answered and isinstance(event, RequestCame):
                connection.send(event.stream, b"\x88", b"", 0.0)
        connection.receive(frame(Kind.RST_STREAM, 0, stream, CANCEL), now)
        sent += connection.out.take()
    return sent


def test_rapid_reset() -> None:
    """CVE-2023-44487: work asked for and thrown away. The connection closes softly."""
    connection = fresh(Limits(unanswered=100))
    [running] = connection.receive(headers(1), 0.0)
    assert isinstance(running, RequestCame)
    assert rapid(connection, 100, answered=False, now=0.0) == b""
    sent = rapid(connection, 1, answered=False, now=0.0)
    assert goaway(sent) == (203, E.ENHANCE_YOUR_CALM)
    assert rapid(connection, 50, answered=False, now=0.0) == b"", "passed over, at no cost"
    assert list(connection.streams) == [1], "what ran before goes on"
    connection.end(running.stream, b"\x88")
    assert connection.drained


def test_resets_after_the_answer_cost_nothing() -> None:
    """Envoy ends every exchange with one."""
    connection = fresh(Limits(unanswered=100))
    assert goaway(rapid(connection, 10_000, answered=True, now=0.0)) is None


def test_some_unanswered_resets_come_back_each_second() -> None:
    """Clients do go away."""
    connection = fresh(Limits(unanswered=100))
    for second in range(100):
        assert rapid(connection, 10, answered=False, now=float(second)) == b""


def test_made_you_reset() -> None:
    """CVE-2025-8671: mistakes that make us reset count like resets of the peer's."""
    connection = fresh(Limits(unanswered=100))
    sent = b""
    for number in range(102):
        stream = 2 * number + 1
        mistake = frame(Kind.WINDOW_UPDATE, 0, stream, LONG(0))
        connection.receive(headers(stream) + mistake, 0.0)
        sent += connection.out.take()
    found = goaway(sent)
    assert found is not None
    assert found[1] is E.ENHANCE_YOUR_CALM
    assert not connection.over


FLOODS = {
    "SETTINGS": frames.settings({}),
    "SETTINGS with values": frames.settings({4: 70_000}),
    "acknowledgements": frames.SETTINGS_ACK,
    "PING": ping(),
    "PING acknowledgements": frame(Kind.PING, Flag.ACK, 0, b"12345678"),
    "PRIORITY": frame(Kind.PRIORITY, 0, 3, b"12345"),
    "unknown frames": frame(0x50, 0, 0, b""),
    "empty DATA": data(1, b""),
    "padding alone": frame(Kind.DATA, Flag.PADDED, 1, b"\x02ab"),
    "WINDOW_UPDATE of the connection": frame(Kind.WINDOW_UPDATE, 0, 0, LONG(1)),
    "WINDOW_UPDATE of a stream": frame(Kind.WINDOW_UPDATE, 0, 1, LONG(1)),
    "RST_STREAM of a closed stream": frame(Kind.RST_STREAM, 0, 3, CANCEL),
    "GOAWAY": frame(Kind.GOAWAY, 0, 0, b"12345678"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_frames_that_carry_no_work(flood: bytes) -> None:
    """So many at once, some more each second; beyond that the connection ends."""
    limits = Limits(idle_frames=200)
    opening = headers(1) + headers(3, end=True) + frame(Kind.RST_STREAM, 0, 3, CANCEL)

    connection = fresh(limits)
    connection.receive(opening, 0.0)
    assert ended(connection, flood * 250) is V.IDLE_FRAMES
    found = goaway(connection.out.take())
    assert found is not None
    assert found[1] is E.ENHANCE_YOUR_CALM

    connection = fresh(limits)
    connection.receive(opening, 0.0)
    for second in range(50):
        assert ended(connection, flood * 20, float(second)) is None


def test_what_a_flood_is_answered_with_stays_small() -> None:
    """A peer that doesn't read makes us hold at most one answer for each unit of the budget."""
    connection = fresh(Limits(idle_frames=200))
    connection.receive(ping() * 100_000, 0.0)
    assert len(connection.out.take()) < 200 * 17 + 200


def test_windows_of_one_byte_don_t_pay_for_themselves() -> None:
    """A byte for each WINDOW_UPDATE is a flood, however long the answer is."""
    connection = fresh(Limits(idle_frames=200))
    [event] = connection.receive(frames.settings({4: 0}) + headers(1), 0.0)
    assert isinstance(event, RequestCame)
    connection.send(event.stream, None, b"x" * 100_000, 0.0)
    one = frame(Kind.WINDOW_UPDATE, 0, 1, LONG(1))
    assert ended(connection, one * 300) is V.IDLE_FRAMES


def test_updates_for_full_frames_are_earned() -> None:
    """A large answer takes as many updates as it takes."""
    connection = fresh(Limits(idle_frames=200))
    [event] = connection.receive(headers(1), 0.0)
    assert isinstance(event, RequestCame)
    connection.send(event.stream, None, b"x" * 20_000_000, 0.0)
    both = frame(Kind.WINDOW_UPDATE, 0, 0, LONG(10_000)) + frame(
        Kind.WINDOW_UPDATE, 0, 1, LONG(10_000)
    )
    while connection.out.unread:
        assert ended(connection, both) is None
        connection.out.take()


def test_what_waits_is_cut_without_a_copy() -> None:
    """A message of some MiB is cut into thousands of frames; each cut must cost the same."""
    connection = fresh(Limits())
    [event] = connection.receive(headers(1), 0.0)
    assert isinstance(event, RequestCame)
    message = b"x" * 1_000_000
    connection.send(event.stream, None, message, 0.0)
    assert event.stream.waiting is not None
    [waits] = event.stream.waiting
    assert len(waits) == 1_000_000 - 65_535
    assert waits.obj is message


def test_answers_that_nobody_takes() -> None:
    """A window of 0: the stream whose answer passes the bound is reset, the others stay."""
    connection = fresh(Limits(unread=1000), hello=HELLO + frames.settings({4: 0}))
    events = connection.receive(headers(1) + headers(3), 0.0)
    first, second = (event.stream for event in events if isinstance(event, RequestCame))
    assert connection.send(first, None, b"x" * 900, 0.0)
    assert not connection.send(second, None, b"x" * 101, 0.0)
    assert resets(connection.out.take()) == [(3, E.ENHANCE_YOUR_CALM)]
    assert connection.out.unread == 900
    connection.receive(frame(Kind.RST_STREAM, 0, 1, CANCEL), 0.0)
    assert connection.out.unread == 0


def test_an_answer_that_isn_t_taken_in_time() -> None:
    """Something of it has to go in each `send_within`."""
    connection = fresh(Limits(send_within=30), hello=HELLO + frames.settings({4: 0}))
    events = connection.receive(headers(1) + headers(3), 0.0)
    slow, dead = (event.stream for event in events if isinstance(event, RequestCame))
    connection.send(slow, None, b"x" * 100, 0.0)
    connection.send(dead, None, b"x" * 100, 0.0)
    connection.out.take()
    connection.receive(frame(Kind.WINDOW_UPDATE, 0, slow.id, LONG(1)), 25.0)
    assert connection.tick(29.0) == []
    assert connection.tick(31.0) == [StreamEnded(dead, E.ENHANCE_YOUR_CALM)]
    assert resets(connection.out.take()) == [(dead.id, E.ENHANCE_YOUR_CALM)]
    assert list(connection.streams) == [slow.id]


def test_no_handshake() -> None:
    """A connection that says nothing, or only the preface."""
    for said in (b"", frames.PREFACE[:5], frames.PREFACE):
        connection: Connection[Fields] = Connection(as_they_are, Limits(handshake=10), 0.0)
        connection.receive(said, 0.0)
        assert connection.tick(9.9) == []
        assert connection.tick(10.1) == [ConnectionEnded(V.HANDSHAKE_TIMEOUT)]


@pytest.mark.parametrize(
    "begun", [headers(1)[:5], headers(1)[:30], frame(Kind.HEADERS, 0, 1, BLOCK)]
)
def test_a_frame_or_block_that_doesn_t_end(begun: bytes) -> None:
    """Slow senders hold nothing for long, also one that sends a byte now and then."""
    connection = fresh(Limits(frame_within=10))
    connection.receive(ping() + begun[:3], 0.0)
    connection.receive(begun[3:], 8.0)
    assert connection.tick(9.0) == []
    connection.receive(b"", 17.0)
    assert connection.tick(18.5) == [ConnectionEnded(V.SLOW_FRAME)]

    connection = fresh(Limits(frame_within=10))
    connection.receive(begun, 60.0)
    assert connection.tick(69.0) == [], "counted from its beginning, not from the last frame"


def test_an_idle_connection_is_ended_gracefully() -> None:
    """Not while a stream is open, and counted from the last one's end."""
    connection = fresh(Limits(idle=600))
    [event] = connection.receive(headers(1, end=True), 0.0)
    assert isinstance(event, RequestCame)
    connection.tick(5000.0)
    assert not connection.out
    connection.end(event.stream, b"\x88")
    connection.out.take()
    connection.tick(5599.0)
    assert not connection.out
    connection.tick(5601.0)
    assert goaway(connection.out.take()) == (2**31 - 1, E.NO_ERROR)
    assert not connection.drained
    connection.tick(5607.0)
    assert goaway(connection.out.take()) == (1, E.NO_ERROR)
    assert connection.drained


def test_a_budget() -> None:
    """So many at once, a tenth each second, and never more than it began with."""
    budget = Budget(10)
    assert [budget.spend(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert not budget.spend(0.5)
    assert budget.spend(2.5)
    budget.earn(1000)
    assert [budget.spend(2.5) for _ in range(11)] == [True] * 10 + [False]
