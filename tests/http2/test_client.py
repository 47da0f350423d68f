"""The side that makes requests, against the `h2` library's server and against bytes by hand."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.http2 import frames
from extproc.adapters.http2.client import Asked, ClientConnection
from extproc.adapters.http2.errors import ConnectionFault, ErrorCode, StreamFault
from extproc.adapters.http2.events import (
    AnswerCame,
    AnswerTooLarge,
    ConnectionEnded,
    StreamEnded,
)
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.frames import Flag, Kind
from extproc.adapters.http2.limits import Limits
from extproc.adapters.http2.replies import ReplyReader
from extproc.core.room import Room
from tests.http2.peers import EMPTIED, cut, data, goaway, headers, resets

MOST = 100_000
REQUEST = literal(
    (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"shop"),
        (b":path", b"/"),
        (b"accept", b"application/json"),
    )
)
HELLO = frames.settings({}) + frames.SETTINGS_ACK
FINE = EMPTIED + literal(((b":status", b"200"), (b"content-type", b"application/json")))


def fresh(limits: Limits | None = None, hello: bytes = HELLO) -> ClientConnection:
    """Return a connection past its beginning, with nothing left to send."""
    connection = ClientConnection(limits or Limits(), 0.0)
    assert connection.receive(hello, 0.0) == []
    connection.out.take()
    return connection


def asked(connection: ClientConnection, body: bytes = b"", most: int = MOST) -> Asked:
    """Make a request."""
    return connection.request(REQUEST, body, most, 0.0)


class Server:
    """The `h2` library's server, which refuses every frame that isn't legal."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.reset: list[int] = []

    def hear(self, sent: bytes) -> None:
        """Take what the client sent."""
        for event in self.h2.receive_data(sent):
            if isinstance(event, h2.events.RequestReceived):
                pairs = {str(name): str(value) for name, value in event.headers}
                self.requests[event.stream_id] = pairs
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.append(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.reset.append(event.stream_id)

    def answer(self, stream: int, body: bytes, trailers: list[Any] | None = None) -> None:
        """Answer a request as far as the windows allow."""
        fields = [(":status", "200"), ("content-length", str(len(body))), ("x-odd", "ü" * 40)]
        self.h2.send_headers(stream, fields)
        while body:
            most = min(
                self.h2.local_flow_control_window(stream),
                self.h2.max_outbound_frame_size,
                len(body),
            )
            assert most
            self.h2.send_data(stream, body[:most])
            body = body[most:]
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        else:
            self.h2.end_stream(stream)


@given(
    st.lists(st.tuples(st.binary(max_size=30_000), st.binary(max_size=30_000)), max_size=8),
    st.integers(1, 5000),
)
def test_a_conversation_with_another_library(calls: list[tuple[bytes, bytes]], size: int) -> None:
    """Requests and answers of any bodies arrive whole, however the bytes are cut."""
    client, server = ClientConnection(Limits(), 0.0), Server()
    streams = [asked(client, body) for body, _ in calls]
    answers: list[AnswerCame] = []
    answered = False
    for _ in range(60):
        server.hear(client.out.take())
        if not answered and len(server.ended) == len(calls):
            answered = True
            for stream, (_, body) in zip(streams, calls, strict=True):
                server.answer(stream.id, body, [("grpc-status", "0")])
        sent = server.h2.data_to_send()
        for place in range(0, len(sent), size):
            for event in client.receive(sent[place : place + size], 0.0):
                assert isinstance(event, AnswerCame)
                answers.append(event)
        if len(answers) == len(calls) and not client.out:
            break
    assert [server.bodies.get(s.id, b"") for s in streams] == [body for body, _ in calls]
    assert len(answers) == len(calls)
    for stream, (_, body) in zip(streams, calls, strict=True):
        assert b"".join(stream.pieces) == body
        assert stream.head is not None
        assert dict(stream.head.fields)["x-odd"] == "ü".encode().decode("latin-1") * 40
        assert stream.trailers_came == (("grpc-status", "0"),)
    assert not client.streams


def test_a_request_as_the_other_side_sees_it() -> None:
    """Preface, settings, and literals."""
    client, server = ClientConnection(Limits(), 0.0), Server()
    stream = asked(client, b"{}")
    server.hear(client.out.take())
    assert server.requests[stream.id][":authority"] == "shop"
    assert server.bodies[stream.id] == b"{}"
    assert server.h2.remote_settings.enable_push == 0
    assert server.h2.remote_settings.header_table_size == 0


def test_cancelling_resets_the_stream() -> None:
    """And what comes for it afterwards is passed over."""
    client = fresh()
    stream = asked(client)
    client.out.take()
    client.cancel(stream)
    assert resets(client.out.take()) == [(stream.id, ErrorCode.CANCEL)]
    late = headers(stream.id, block=FINE) + data(stream.id, b"late", end=True)
    assert client.receive(late, 0.0) == []
    assert not client.over
    other = asked(client)
    (event,) = client.receive(headers(other.id, block=FINE, end=True), 0.0)
    assert isinstance(event, AnswerCame)


def test_interim_answers_are_passed_over() -> None:
    """1xx may come as often as it likes (RFC 9110 section 15.2)."""
    client = fresh()
    stream = asked(client)
    early = EMPTIED + literal(((b":status", b"103"), (b"link", b"</a>")))
    sent = headers(stream.id, block=early) * 3 + headers(stream.id, block=FINE, end=True)
    (event,) = client.receive(sent, 0.0)
    assert isinstance(event, AnswerCame)
    assert stream.head is not None
    assert stream.head.status == 200


def test_a_body_that_is_larger_than_wanted() -> None:
    """Is not taken: the stream is reset."""
    client = fresh()
    stream = asked(client, most=10)
    sent = headers(stream.id, block=FINE) + data(stream.id, b"x" * 11)
    (event,) = client.receive(sent, 0.0)
    assert isinstance(event, AnswerTooLarge)
    assert not event.together
    assert resets(client.out.take()) == [(stream.id, ErrorCode.CANCEL)]


def test_bodies_that_are_larger_than_wanted_together() -> None:
    """The one whose piece doesn't fit any more is reset; the other goes on."""
    client, room = fresh(), Room(10)
    one, other = (client.request(REQUEST, b"", 10, 0.0, room) for _ in range(2))
    sent = b"".join(headers(s.id, block=FINE) + data(s.id, b"x" * 6) for s in (one, other))
    (event,) = client.receive(sent, 0.0)
    assert isinstance(event, AnswerTooLarge)
    assert event.stream is other
    assert event.together
    assert resets(client.out.take()) == [(other.id, ErrorCode.CANCEL)]
    (event,) = client.receive(data(one.id, b"x" * 4, end=True), 0.0)
    assert isinstance(event, AnswerCame)
    assert room.left == 0


@pytest.mark.parametrize(
    "sent",
    [
        lambda s: data(s, b"x"),
        lambda s: headers(s, block=EMPTIED + literal(((b"a", b"b"),))),
        lambda s: headers(s, block=EMPTIED + literal(((b":status", b"20"),))),
        lambda s: headers(s, block=EMPTIED + literal(((b":status", b"200"), (b":path", b"/")))),
        lambda s: headers(s, block=EMPTIED + literal(((b":status", b"200"), (b"A", b"b")))),
        lambda s: headers(s, block=EMPTIED + literal(((b":status", b"200"), (b"a", b"b\r\nc: d")))),
        lambda s: headers(
            s, block=EMPTIED + literal(((b":status", b"200"), (b"connection", b"close")))
        ),
        lambda s: headers(s, block=EMPTIED + literal(((b":status", b"103"),)), end=True),
        lambda s: headers(s, block=FINE) + headers(s, block=literal(((b"a", b"b"),))),
        lambda s: headers(s, block=FINE) + headers(s, block=FINE, end=True),
    ],
)
def test_a_malformed_answer_ends_its_stream_alone(sent: Any) -> None:
    """RFC 9113 section 8.1.1; the others go on."""
    client = fresh()
    stream, other = asked(client), asked(client)
    (event,) = client.receive(sent(stream.id), 0.0)
    assert isinstance(event, StreamEnded)
    assert event.stream is stream
    assert resets(client.out.take())
    (event,) = client.receive(headers(other.id, block=FINE, end=True), 0.0)
    assert isinstance(event, AnswerCame)


def test_a_reset_by_the_server() -> None:
    """Is told with its code; it costs nothing."""
    client = fresh()
    for _ in range(5000):
        stream = asked(client)
        (event,) = client.receive(frames.reset(stream.id, ErrorCode.REFUSED_STREAM), 0.0)
        assert isinstance(event, StreamEnded)
        assert event.code == ErrorCode.REFUSED_STREAM
    assert client.takes_more


def test_what_the_server_never_looked_at() -> None:
    """GOAWAY names the last stream it took; the others may be asked again elsewhere."""
    client = fresh()
    first, second, third = asked(client), asked(client), asked(client)
    client.receive(frames.go_away(first.id, ErrorCode.NO_ERROR), 0.0)
    assert not client.takes_more
    assert [event.stream for event in client.refused()] == [second, third]
    assert client.refused() == []
    (event,) = client.receive(headers(first.id, block=FINE, end=True), 0.0)
    assert isinstance(event, AnswerCame)
    assert client.drained


def test_as_many_streams_as_the_server_takes() -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS."""
    client = fresh(hello=frames.settings({3: 2}) + frames.SETTINGS_ACK)
    assert client.takes_more
    first, _ = asked(client), asked(client)
    assert not client.takes_more
    client.cancel(first)
    assert client.takes_more


@pytest.mark.parametrize(
    "sent",
    [
        frames.frame(Kind.PUSH_PROMISE, Flag.END_HEADERS, 1, b"\0\0\0\2" + FINE),
        headers(2, block=FINE),
        headers(99, block=FINE),
        data(99, b"x"),
        frames.frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\xff" * 8),
        frames.frame(Kind.DATA, 0, 0, b"x"),
    ],
)
def test_what_ends_the_connection(sent: bytes) -> None:
    """With GOAWAY, and nothing is read any more."""
    client = fresh()
    asked(client)
    events = client.receive(sent, 0.0)
    assert isinstance(events[-1], ConnectionEnded)
    assert goaway(client.out.take()) is not None
    assert client.receive(headers(1, block=FINE, end=True), 0.0) == []


def test_an_answer_before_the_request_is_whole() -> None:
    """The rest of the request is for nobody."""
    client = fresh()
    stream = asked(client, b"x" * 200_000)
    client.out.take()
    (event,) = client.receive(headers(stream.id, block=FINE, end=True), 0.0)
    assert isinstance(event, AnswerCame)
    assert resets(client.out.take()) == [(stream.id, ErrorCode.CANCEL)]
    assert not client.streams


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_legal_or_end_it(noise: bytes, size: int) -> None:
    """Any bytes give declared events; cutting them elsewhere gives the same."""

    def run(pieces: list[bytes]) -> tuple[list[str], bytes]:
        client = fresh()
        streams = [asked(client), asked(client)]
        client.out.take()
        found = []
        for piece in [headers(streams[0].id, block=FINE), *pieces]:
            found += [type(event).__name__ for event in client.receive(piece, 0.0)]
        out = client.out.take()
        list(cut(out))
        return found, out

    whole = run([noise])
    assert run([noise[p : p + size] for p in range(0, len(noise), size)]) == whole


NAMES = st.from_regex(rb"[a-z][a-z0-9-]{0,10}", fullmatch=True).filter(
    lambda name: name not in {b"te", b"connection", b"upgrade", b"keep-alive"}
)
VALUES = st.from_regex(rb"([!-~]([ -~]{0,300}[!-~])?)?", fullmatch=True)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@given(st.lists(FIELDS, min_size=1, max_size=5), st.booleans())
def test_fields_are_what_the_library_reads(blocks: list[Any], huffman: bool) -> None:  # noqa: FBT001 - drawn
    """Cut out and remembered one by one, they mean what whole blocks mean."""
    reader = ReplyReader(Limits())
    reader.settled()
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    for fields in [*blocks, *blocks]:
        block = encoder.encode([(b":status", b"200"), *fields], huffman=huffman)
        head = reader.reply(block)
        assert head.status == 200
        assert head.fields == tuple((n.decode(), v.decode()) for n, v in fields)
    assert reader._alone


@given(st.binary(max_size=60))
def test_any_block_is_read_as_the_library_reads_it(block: bytes) -> None:
    """The same fields, or a refusal by both."""
    reader = ReplyReader(Limits())
    reader.settled()
    reader.reply(EMPTIED + literal(((b":status", b"200"),)))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        expected = [(bytes(f[0]), bytes(f[1])) for f in decoder.decode(block, raw=True)]
    except (hpack.HPACKError, IndexError, ValueError):
        with pytest.raises((ConnectionFault, StreamFault)):
            reader.reply(block)
        return
    try:
        found = reader.reply(block)
    except StreamFault:
        return  # well encoded, but no answer
    assert [
        (b":status", str(found.status).encode()),
        *((n.encode(), v.encode("latin-1")) for n, v in found.fields),
    ] == expected
