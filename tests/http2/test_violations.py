"""What a peer can do wrong, one conversation each, and what it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.adapters.http2 import frames
from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.errors import ErrorCode, Violation
from extproc.adapters.http2.events import ConnectionEnded, DataCame, RequestCame, StreamEnded
from extproc.adapters.http2.fields import Fields, literal
from extproc.adapters.http2.frames import Flag, Kind, frame
from extproc.adapters.http2.limits import Limits
from tests.http2.peers import (
    BLOCK,
    EMPTIED,
    REQUEST,
    as_they_are,
    cut,
    data,
    fresh,
    goaway,
    headers,
    ping,
    resets,
)

LONG = frames.LONG.pack
E, V = ErrorCode, Violation
WINDOW, RESET, PRIORITY = Kind.WINDOW_UPDATE, Kind.RST_STREAM, Kind.PRIORITY
CLOSED = headers(1, end=True) + frame(RESET, 0, 1, LONG(8))


def setting(name: int, value: int) -> bytes:
    """Write SETTINGS with one value."""
    return frames.settings({name: value})


def changed(name: bytes, value: bytes | None) -> bytes:
    """Return a request's block with one field changed, added or taken out."""
    kept = [field for field in REQUEST if field[0] != name]
    added = [] if value is None else [(name, value)]
    pseudo = [f for f in kept + added if f[0].startswith(b":")]
    return EMPTIED + literal([*pseudo, *(f for f in kept + added if not f[0].startswith(b":"))])


# What ends the connection: RFC 9113 by section.
FATAL: dict[str, tuple[bytes, Violation]] = {
    "3.4 frame too large": (data(1, b"x" * 16_385), V.FRAME_TOO_LARGE),
    "4.3 rubbish block": (headers(1, block=b"\xff\xff\xff\xff\xff\xff\xff"), V.COMPRESSION),
    "4.3 table not emptied after ack": (headers(1, block=literal(REQUEST)), V.COMPRESSION),
    "4.3 dynamic index after ack": (headers(1, block=BLOCK + b"\xbe"), V.COMPRESSION),
    "5.1 DATA on idle": (data(3, b"x"), V.IDLE_STREAM),
    "5.1 RST_STREAM on idle": (frame(RESET, 0, 3, LONG(8)), V.IDLE_STREAM),
    "5.1 WINDOW_UPDATE on idle": (frame(WINDOW, 0, 3, LONG(8)), V.IDLE_STREAM),
    "5.1.1 even stream": (headers(2), V.STREAM_ID),
    "5.1.1 DATA on an even stream": (headers(5) + data(2, b"x"), V.IDLE_STREAM),
    "5.1.1 earlier stream": (headers(5, end=True) + headers(3), V.STREAM_ID),
    "5.1.1 HEADERS on closed": (CLOSED + headers(1), V.STREAM_ID),
    "6.1 DATA on stream 0": (frame(Kind.DATA, 0, 0, b"x"), V.NEEDS_STREAM),
    "6.1 padding too long": (headers(1) + frame(Kind.DATA, Flag.PADDED, 1, b"\x05abc"), V.PADDING),
    "6.1 padding without length": (
        headers(1) + frame(Kind.DATA, Flag.PADDED, 1, b""),
        V.FRAME_SIZE,
    ),
    "6.2 HEADERS on stream 0": (headers(0), V.NEEDS_STREAM),
    "6.2 padding too long": (headers(1, block=b"\xff" + BLOCK, flags=Flag.PADDED), V.PADDING),
    "6.2 priority cut off": (headers(1, block=b"\0\0", flags=Flag.PRIORITY), V.FRAME_SIZE),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, b"12345"), V.NEEDS_STREAM),
    "6.3 PRIORITY size": (frame(PRIORITY, 0, 1, b"1234"), V.FRAME_SIZE),
    "6.4 RST_STREAM on stream 0": (frame(RESET, 0, 0, LONG(8)), V.NEEDS_STREAM),
    "6.4 RST_STREAM size": (headers(1) + frame(RESET, 0, 1, b"123"), V.FRAME_SIZE),
    "6.5 SETTINGS on a stream": (frame(Kind.SETTINGS, 0, 1, b""), V.NEEDS_CONNECTION),
    "6.5 SETTINGS size": (frame(Kind.SETTINGS, 0, 0, b"12345"), V.FRAME_SIZE),
    "6.5 ACK with content": (frame(Kind.SETTINGS, Flag.ACK, 0, b"123456"), V.FRAME_SIZE),
    "6.5.2 ENABLE_PUSH 2": (setting(2, 2), V.SETTING_VALUE),
    "6.5.2 window above 2^31-1": (setting(4, 2**31), V.WINDOW_SETTING),
    "6.5.2 frame size too small": (setting(5, 16_383), V.SETTING_VALUE),
    "6.5.2 frame size too large": (setting(5, 2**24), V.SETTING_VALUE),
    "6.7 PING on a stream": (frame(Kind.PING, 0, 1, b"12345678"), V.NEEDS_CONNECTION),
    "6.7 PING size": (frame(Kind.PING, 0, 0, b"1234567"), V.FRAME_SIZE),
    "6.8 GOAWAY on a stream": (frame(Kind.GOAWAY, 0, 1, b"12345678"), V.NEEDS_CONNECTION),
    "6.8 GOAWAY size": (frame(Kind.GOAWAY, 0, 0, b"1234567"), V.FRAME_SIZE),
    "6.9 WINDOW_UPDATE by 0": (frame(WINDOW, 0, 0, LONG(0)), V.ZERO_INCREMENT),
    "6.9 WINDOW_UPDATE size": (frame(WINDOW, 0, 0, b"123"), V.FRAME_SIZE),
    "6.9.1 overflow": (frame(WINDOW, 0, 0, LONG(2**31 - 1)), V.WINDOW_OVERFLOW),
    "6.9.2 overflow by setting": (
        headers(1) + frame(WINDOW, 0, 1, LONG(2**31 - 1 - 65_535)) + setting(4, 65_536),
        V.WINDOW_OVERFLOW,
    ),
    "6.10 lost CONTINUATION": (frame(Kind.CONTINUATION, 4, 1, b""), V.LOST_CONTINUATION),
    "6.10 other frame in a block": (frame(Kind.HEADERS, 0, 1, BLOCK) + ping(), V.INTERRUPTED_BLOCK),
    "6.10 other stream in a block": (
        frame(Kind.HEADERS, 0, 1, BLOCK) + frame(Kind.CONTINUATION, 4, 3, b""),
        V.INTERRUPTED_BLOCK,
    ),
    "8.4 PUSH_PROMISE": (frame(Kind.PUSH_PROMISE, 4, 1, LONG(2)), V.PUSH),
}


@pytest.mark.parametrize(("sent", "violation"), FATAL.values(), ids=FATAL)
def test_the_connection_ends(sent: bytes, violation: Violation) -> None:
    """With GOAWAY and the code of the RFC; nothing after it is heard."""
    connection = fresh()
    events = connection.receive(sent, 0.0)
    assert events[-1] == ConnectionEnded(violation)
    found = goaway(connection.out.take())
    assert found is not None
    assert found[1] is violation.code
    assert connection.over
    assert connection.receive(ping(), 0.0) == []
    assert not connection.out


BEGINNINGS: dict[str, tuple[bytes, Violation]] = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\n", V.PREFACE),
    "wrong at the end": (frames.PREFACE[:-1] + b"x", V.PREFACE),
    "no SETTINGS": (frames.PREFACE + ping(), V.FIRST_SETTINGS),
    "an acknowledgement first": (frames.PREFACE + frames.SETTINGS_ACK, V.FIRST_SETTINGS),
}


@pytest.mark.parametrize(("sent", "violation"), BEGINNINGS.values(), ids=BEGINNINGS)
@pytest.mark.parametrize("size", [1, 1000])
def test_the_beginning(sent: bytes, violation: Violation, size: int) -> None:
    """A wrong preface is refused with its first wrong byte, however it is cut."""
    connection: Connection[Fields] = Connection(as_they_are, Limits(), 0.0)
    events = [
        event
        for at in range(0, len(sent), size)
        for event in connection.receive(sent[at : at + size], 0.0)
    ]
    assert events == [ConnectionEnded(violation)]


# What ends one stream.
MALFORMED = {
    "no method": changed(b":method", None),
    "no scheme": changed(b":scheme", None),
    "no path": changed(b":path", None),
    "empty path": changed(b":path", b""),
    "unknown pseudo": changed(b":protocol", b"x"),
    "response pseudo": changed(b":status", b"200"),
    "pseudo twice": EMPTIED + literal([*REQUEST[:4], (b":path", b"/x")]),
    "pseudo after fields": EMPTIED + literal([*REQUEST[:2], *REQUEST[4:], *REQUEST[2:4]]),
    "upper case": changed(b"Upper", b"x"),
    "blank in a name": changed(b"a b", b"x"),
    "empty name": changed(b"", b"x"),
    "line feed in a value": changed(b"a", b"x\ny: z"),
    "NUL in a value": changed(b"a", b"x\0"),
    "blank around a value": changed(b"a", b" x"),
    "connection": changed(b"connection", b"close"),
    "transfer-encoding": changed(b"transfer-encoding", b"chunked"),
    "te gzip": changed(b"te", b"gzip"),
}
BY_STREAM: dict[str, tuple[bytes, Violation]] = {
    "5.1 DATA after END_STREAM": (headers(1, end=True) + data(1, b"x"), V.HALF_CLOSED),
    "5.1 HEADERS after END_STREAM": (headers(1, end=True) + headers(1, end=True), V.HALF_CLOSED),
    "5.1 DATA on closed": (CLOSED + data(1, b"x"), V.CLOSED_STREAM),
    "6.9 WINDOW_UPDATE by 0": (headers(1) + frame(WINDOW, 0, 1, LONG(0)), V.ZERO_INCREMENT),
    "6.9.1 overflow": (headers(1) + frame(WINDOW, 0, 1, LONG(2**31 - 1)), V.WINDOW_OVERFLOW),
    "8.1 trailers without end": (headers(1) + headers(1), V.TRAILERS_WITHOUT_END),
    **{f"8.1.1 {name}": (headers(1, block=b), V.MALFORMED) for name, b in MALFORMED.items()},
}


@pytest.mark.parametrize(("sent", "violation"), BY_STREAM.values(), ids=BY_STREAM)
def test_one_stream_ends(sent: bytes, violation: Violation) -> None:
    """With RST_STREAM and the code of the RFC; the next stream is served."""
    connection = fresh()
    connection.receive(sent, 0.0)
    assert resets(connection.out.take()) == [(1, violation.code)]
    assert not connection.over
    assert 1 not in connection.streams
    [event] = connection.receive(headers(3), 0.0)
    assert isinstance(event, RequestCame)


def test_the_layer_above_hears_of_a_stream_that_ended() -> None:
    """For each stream that came to it."""
    connection = fresh()
    events = connection.receive(headers(1) + frame(RESET, 0, 1, LONG(8)) + headers(3), 0.0)
    events += connection.receive(frame(WINDOW, 0, 3, LONG(0)), 0.0)
    ended = [(e.stream.id, e.code) for e in events if isinstance(e, StreamEnded)]
    assert ended == [(1, E.CANCEL), (3, E.PROTOCOL_ERROR)]


def test_what_is_under_way_when_we_reset_is_passed_over() -> None:
    """DATA, trailers and resets for it are no mistake (RFC 9113 section 5.4.2)."""
    connection = fresh()
    [event] = connection.receive(headers(1), 0.0)
    assert isinstance(event, RequestCame)
    connection.reset(event.stream, E.CANCEL)
    connection.out.take()
    late = data(1, b"x") + headers(1, end=True) + frame(WINDOW, 0, 1, LONG(1))
    assert connection.receive(late + frame(RESET, 0, 1, LONG(8)), 0.0) == []
    assert not connection.out


def test_data_beyond_the_windows() -> None:
    """The stream's ends the stream, the connection's the connection (section 6.9.1)."""
    limits = Limits(stream_window=100_000, connection_window=150_000)
    connection = fresh(limits)
    connection.receive(headers(1) + b"".join(data(1, b"x" * 16_000) for _ in range(7)), 0.0)
    assert resets(connection.out.take()) == [(1, E.FLOW_CONTROL_ERROR)]
    # Nothing gives the connection's credit back before half of it is used, so one leap passes it.
    limits = replace(limits, stream_window=2**20, connection_window=16_000)
    connection = fresh(replace(limits, connection_window=65_536))
    connection._credit = 100
    [*_, last] = connection.receive(headers(1) + data(1, b"x" * 101), 0.0)
    assert last == ConnectionEnded(V.WINDOW_EXCEEDED)


def test_unknown_frames_and_settings_are_passed_over() -> None:
    """Extensions (RFC 9113 section 5.5)."""
    connection = fresh()
    assert connection.receive(frame(0x77, 0xFF, 9, b"x") + setting(0x99, 7), 0.0) == []
    assert not connection.over


def test_padding_and_priority_are_taken_off() -> None:
    """And count as credit."""
    connection = fresh()
    block = b"\x03" + b"\0\0\0\0\1" + BLOCK + b"pad"
    [event] = connection.receive(headers(1, block=block, flags=Flag.PADDED | Flag.PRIORITY), 0.0)
    assert isinstance(event, RequestCame)
    assert event.head == REQUEST
    padded = frame(Kind.DATA, Flag.PADDED | Flag.END_STREAM, 1, b"\x03abc123")
    assert connection.receive(padded, 0.0) == [DataCame(event.stream, b"abc", ended=True)]


def test_a_block_in_pieces() -> None:
    """HEADERS and CONTINUATION; END_STREAM is on the first."""
    connection = fresh()
    [event] = connection.receive(
        frame(Kind.HEADERS, Flag.END_STREAM, 1, BLOCK[:10])
        + frame(Kind.CONTINUATION, 0, 1, BLOCK[10:20])
        + frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, BLOCK[20:]),
        0.0,
    )
    assert isinstance(event, RequestCame)
    assert (event.head, event.ended) == (REQUEST, True)


def test_after_the_last_call() -> None:
    """Streams under way are taken until the peer has heard; then passed over, and all finish."""
    connection = fresh()
    connection.receive(headers(1), 0.0)
    connection.announce_end()
    said = connection.out.take()
    assert goaway(said) == (2**31 - 1, E.NO_ERROR)
    [probe] = [payload for kind, _, _, payload in cut(said) if kind == Kind.PING]
    [late] = connection.receive(headers(3), 0.0)
    assert isinstance(late, RequestCame)
    assert connection.receive(frame(Kind.PING, Flag.ACK, 0, probe), 0.0) == []
    assert goaway(connection.out.take()) == (3, E.NO_ERROR)
    assert connection.receive(headers(5) + data(5, b"x", end=True), 0.0) == []
    assert not connection.drained
    for stream in list(connection.streams.values()):
        connection.end(stream, b"\x88")
    assert connection.drained
