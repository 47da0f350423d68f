"""What `Connection.receive` returns, in the order in which it happened.

Those made for every exchange or call have their `__init__` written out: a dataclass's own is never
compiled (docs/decisions/0008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from extproc.adapters.http2.errors import ErrorCode, Violation
from extproc.adapters.http2.streams import Stream


@dataclass(slots=True, init=False)
class RequestCame:
    """A stream opened.

    Attributes:
        stream: the stream.
        head: what the reader given to the connection made of the fields.
        ended: nothing follows.
    """

    stream: Stream
    head: Any
    ended: bool

    def __init__(self, stream: Stream, head: Any, ended: bool) -> None:  # noqa: FBT001 - a field
        self.stream = stream
        self.head = head
        self.ended = ended


@dataclass(slots=True, init=False)
class DataCame:
    """Bytes came on a stream, or its end, or both; trailers are an end."""

    stream: Stream
    data: bytes
    ended: bool

    def __init__(self, stream: Stream, data: bytes, ended: bool) -> None:  # noqa: FBT001 - a field
        self.stream = stream
        self.data = data
        self.ended = ended


@dataclass(slots=True, init=False)
class AnswerCame:
    """The answer to a request of ours is whole; its stream holds it."""

    stream: Stream

    def __init__(self, stream: Stream) -> None:
        self.stream = stream


@dataclass(slots=True, init=False)
class AnswerTooLarge:
    """The answer to a request of ours is larger than was wanted; its stream was reset.

    Attributes:
        stream: of the request.
        together: it's what several may have together that is too little.
    """

    stream: Stream
    together: bool

    def __init__(self, stream: Stream, together: bool) -> None:  # noqa: FBT001 - a field
        self.stream = stream
        self.together = together


@dataclass(slots=True, init=False)
class StreamEnded:
    """A stream ended before its time: reset by the peer, or by us for a fault of the peer."""

    stream: Stream
    code: ErrorCode | int

    def __init__(self, stream: Stream, code: ErrorCode | int) -> None:
        self.stream = stream
        self.code = code


@dataclass(slots=True)
class ConnectionEnded:
    """The peer broke the connection's rules: nothing more is read; what `take` gives is last."""

    violation: Violation
