"""The other side of a connection for tests: frames by hand, and the `h2` library's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events

from extproc.adapters.http2 import frames
from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.errors import ErrorCode
from extproc.adapters.http2.events import DataCame, RequestCame
from extproc.adapters.http2.fields import Fields, literal
from extproc.adapters.http2.frames import Flag, Kind
from extproc.adapters.http2.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"x"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
# The table's size goes to 0 first, as RFC 7541 section 4.2 asks once our SETTINGS are known.
EMPTIED = b"\x20"
BLOCK = EMPTIED + literal(REQUEST)
HELLO = frames.PREFACE + frames.settings({}) + frames.SETTINGS_ACK


def as_they_are(fields: Fields) -> Fields:
    """Interpret fields as themselves."""
    return fields


def fresh(limits: Limits | None = None, hello: bytes = HELLO) -> Connection[Fields]:
    """Return a connection past its beginning, with nothing left to send."""
    connection: Connection[Fields] = Connection(as_they_are, limits or Limits(), 0.0)
    assert connection.receive(hello, 0.0) == []
    connection.out.take()
    return connection


def headers(stream: int, *, end: bool = False, block: bytes = BLOCK, flags: int = 0) -> bytes:
    """Write HEADERS with a whole block."""
    flags |= Flag.END_HEADERS | (Flag.END_STREAM if end else 0)
    return frames.frame(Kind.HEADERS, flags, stream, block)


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    """Write DATA."""
    return frames.frame(Kind.DATA, Flag.END_STREAM if end else 0, stream, payload)


def ping(payload: bytes = b"12345678") -> bytes:
    """Write PING."""
    return frames.frame(Kind.PING, 0, 0, payload)


def cut(buffer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Read frames: type, flags, stream, payload; fails on bytes that are none."""
    position = 0
    while position < len(buffer):
        word, flags, stream = frames.HEADER.unpack_from(buffer, position)
        kind, size = word & 255, word >> 8
        position += frames.HEADER_SIZE + size
        assert position <= len(buffer), "a frame is cut off"
        yield kind, flags, stream, buffer[position - size : position]


def goaway(buffer: bytes) -> tuple[int, ErrorCode] | None:
    """Return the last GOAWAY in what was sent: last stream and code."""
    found = None
    for kind, _, _, payload in cut(buffer):
        if kind == Kind.GOAWAY:
            found = (
                int.from_bytes(payload[:4], "big"),
                ErrorCode(int.from_bytes(payload[4:8], "big")),
            )
    return found


def resets(buffer: bytes) -> list[tuple[int, ErrorCode]]:
    """Return the RST_STREAM frames in what was sent: stream and code."""
    return [
        (stream, ErrorCode(int.from_bytes(payload, "big")))
        for kind, _, stream, payload in cut(buffer)
        if kind == Kind.RST_STREAM
    ]


class Client:
    """The `h2` library's client, which refuses every frame that isn't legal."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.events: list[Any] = []

    def open(self, body: bytes | None, *, end: bool = True) -> int:
        """Make a request."""
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list(REQUEST), end_stream=body is None and end)
        if body is not None:
            self.send(stream, body, end=end)
        return stream

    def send(self, stream: int, body: bytes, *, end: bool = False) -> bytes:
        """Send as much of a body as the windows allow; returns the rest."""
        while True:
            most = min(
                self.h2.local_flow_control_window(stream),
                self.h2.max_outbound_frame_size,
                len(body),
            )
            if body and not most:
                return body
            piece, body = body[:most], body[most:]
            self.h2.send_data(stream, piece, end_stream=end and not body)
            if not body:
                return b""

    def hear(self, sent: bytes) -> None:
        """Take what the server sent; raises where it isn't legal."""
        for event in self.h2.receive_data(sent):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                size = event.flow_controlled_length
                if size:
                    self.h2.acknowledge_received_data(size, event.stream_id)

    def body(self, stream: int) -> bytes:
        """Return what came on a stream."""
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    def saw(self, kind: type) -> list[Any]:
        """Return events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Echo:
    """The smallest layer above: sends each request's bytes back, then trailers."""

    def __init__(self, connection: Connection[Fields]) -> None:
        self.connection = connection

    def take(self, received: bytes, now: float = 0.0) -> bytes:
        """Handle bytes; returns what is sent."""
        for event in self.connection.receive(received, now):
            if isinstance(event, RequestCame):
                self.connection.send(event.stream, b"\x88", b"", 0.0)
                if event.ended:
                    self.connection.end(event.stream, literal([(b"done", b"1")]))
            elif isinstance(event, DataCame):
                if event.data:
                    self.connection.send(event.stream, None, event.data, now)
                    self.connection.took(event.stream, len(event.data))
                if event.ended:
                    self.connection.end(event.stream, literal([(b"done", b"1")]))
        return self.connection.out.take()
