"""What `Connection.receive` returns, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from extproc.adapters.http2.errors import ErrorCode, Violation
    from extproc.adapters.http2.streams import Stream

T = TypeVar("T")


@dataclass(slots=True)
class RequestCame(Generic[T]):
    """A stream opened.

    Attributes:
        stream: the stream.
        head: what the reader given to the connection made of the fields.
        ended: nothing follows.
    """

    stream: Stream
    head: T
    ended: bool


@dataclass(slots=True)
class ResponseCame(Generic[T]):
    """The answer to a request of ours begins.

    Attributes:
        stream: the stream.
        head: the status and the fields.
        ended: nothing follows.
    """

    stream: Stream
    head: T
    ended: bool


@dataclass(slots=True)
class DataCame:
    """Bytes came on a stream, or its end, or both; trailers are an end.

    Attributes:
        stream: the stream.
        data: bytes.
        ended: nothing follows.
        trailers: the fields behind a body, where a client reads them.
    """

    stream: Stream
    data: bytes
    ended: bool
    trailers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class StreamEnded:
    """A stream ended before its time: reset by the peer, or by us for a fault of the peer."""

    stream: Stream
    code: ErrorCode | int


@dataclass(slots=True)
class ConnectionEnded:
    """The peer broke the connection's rules: nothing more is read; what `take` gives is last."""

    violation: Violation
