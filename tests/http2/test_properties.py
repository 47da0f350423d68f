"""Any bytes: legal frames or one declared error; any cut: the same events; the table holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.adapters.http2 import frames
from extproc.adapters.http2.connection import Connection, Event
from extproc.adapters.http2.events import ConnectionEnded, DataCame, RequestCame, StreamEnded
from extproc.adapters.http2.fields import Fields, literal
from extproc.adapters.http2.frames import Kind, frame
from extproc.adapters.http2.limits import Limits
from tests.http2.peers import BLOCK, EMPTIED, HELLO, REQUEST, as_they_are, cut, headers

SMALL = Limits(
    streams=4,
    stream_window=70_000,
    connection_window=140_000,
    header_block=2000,
    unanswered=10,
    idle_frames=30,
    unread=5000,
)
STREAMS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 9, 11, 2, 2**31 - 1])
BLOCKS = st.sampled_from([BLOCK, literal(REQUEST), EMPTIED, b"\xbe", literal(REQUEST[1:]), b"\xff"])
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"12345678"]),
    st.sampled_from([b"x" * 16_384, b"x" * 16_385, b"\0\4\0\0\0\0", b"\0\4\0\0\0\1"]),
    BLOCKS,
)
LIKELY = st.one_of(
    st.builds(headers, STREAMS, end=st.booleans(), block=BLOCKS),
    st.builds(frame, st.just(int(Kind.DATA)), st.sampled_from([0, 1, 8, 9]), STREAMS, PAYLOADS),
    st.builds(
        frame, st.sampled_from([*map(int, Kind), 99]), st.integers(0, 255), STREAMS, PAYLOADS
    ),
)
CONVERSATIONS = st.lists(LIKELY, max_size=30).map(b"".join)


def shown(event: Event) -> tuple[Any, ...]:
    """Return an event as plain values."""
    match event:
        case RequestCame():
            return ("request", event.stream.id, event.head, event.ended)
        case DataCame():
            return ("data", event.stream.id, event.data, event.ended)
        case StreamEnded():
            return ("ended", event.stream.id, int(event.code))
        case ConnectionEnded():
            return ("over", event.violation)
        case _:
            raise AssertionError(event)  # a client's


def check_frames(sent: bytes) -> None:
    """Fail unless these are frames that a server may send."""
    for kind, _, stream, payload in cut(sent):
        assert len(payload) <= frames.MAX_FRAME
        assert kind in set(Kind) - {Kind.PUSH_PROMISE, Kind.PRIORITY, Kind.CONTINUATION}
        on_connection = kind in {Kind.SETTINGS, Kind.PING, Kind.GOAWAY}
        assert kind == Kind.WINDOW_UPDATE or (stream == 0) == on_connection


def check_table(connection: Connection[Fields]) -> None:
    """Fail unless the table holds exactly the streams that somebody may still use."""
    waiting = 0
    for stream_id, stream in connection.streams.items():
        assert stream.id == stream_id <= connection._table.last
        assert stream.remote_open or stream.local_open or stream.waiting
        waiting += sum(map(len, stream.waiting or ()))
    assert connection.out.unread == waiting
    assert len(connection.streams) <= connection._limits.streams
    assert len(connection._rest) < frames.HEADER_SIZE + frames.MAX_FRAME


def run(pieces: list[bytes], *, answer: bool) -> list[tuple[Any, ...]]:
    """Feed a connection; return its events as plain values."""
    connection: Connection[Fields] = Connection(as_they_are, SMALL, 0.0)
    sent = connection.out.take()
    seen = []
    for piece in pieces:
        events = connection.receive(piece, 0.0)
        seen += [shown(event) for event in events]
        if answer:
            respond(connection, events)
        sent += connection.out.take()
        check_table(connection)
    check_frames(sent)
    return seen


def respond(connection: Connection[Fields], events: list[Event]) -> None:
    """Answer some streams in part, some whole, some with a reset."""
    for event in events:
        match event:
            case RequestCame(stream=stream):
                connection.send(stream, b"\x88", b"", 0.0)
                connection.send(stream, None, b"y" * (min(stream.id, 11) * 700), 0.0)
                if stream.id % 3 == 0:
                    connection.end(stream, literal([(b"a", b"b")]))
            case DataCame(stream=stream, ended=ended):
                connection.took(stream, len(event.data))
                if ended or stream.id % 5 == 0:
                    connection.end(stream, literal([(b"a", b"b")]))
                elif stream.id % 7 == 0:
                    connection.reset(stream, 8)
            case _:
                pass


@given(st.binary(max_size=500))
def test_any_bytes_from_the_beginning(sent: bytes) -> None:
    """Almost never a preface; always an answer or silence."""
    run([sent], answer=True)


@settings(max_examples=500)
@given(CONVERSATIONS)
def test_any_frames(sent: bytes) -> None:
    """Legal frames go out, and the table stays consistent."""
    seen = run([HELLO, sent], answer=True)
    assert [kind for kind, *_ in seen].count("over") <= 1


@settings(max_examples=300)
@given(CONVERSATIONS, st.data())
def test_any_cut_gives_the_same_events(sent: bytes, drawn: st.DataObject) -> None:
    """Where the bytes were cut is nobody's business."""
    whole = HELLO + sent
    size = drawn.draw(st.integers(1, max(1, min(200, len(whole)))))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert run(pieces, answer=False) == run([whole], answer=False)


@given(CONVERSATIONS)
def test_every_stream_has_one_beginning_and_one_end(sent: bytes) -> None:
    """Events of a stream lie between its request and its end."""
    open_: set[int] = set()
    for kind, *rest in run([HELLO, sent], answer=False):
        if kind == "request":
            assert rest[0] not in open_
            open_.add(rest[0])
        elif kind == "data":
            assert rest[0] in open_
        elif kind == "ended":
            open_.remove(rest[0])
