"""gRPC statuses and the header blocks that carry them (gRPC over HTTP/2, "Responses")."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

from extproc.adapters.http2.fields import literal

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_LONGEST_TEXT = 1024


class Status(IntEnum):
    """The codes that this server gives."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallFault(Exception):
    """A call ends with an error status."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _status_200() -> bytes:
    return b"\x88"  # index 8 of the static table, RFC 7541 appendix A


HEADERS = _status_200() + literal([_CONTENT_TYPE])
OK_TRAILERS = literal([(b"grpc-status", b"0")])


@lru_cache(maxsize=256)
def trailers(status: Status, text: str) -> bytes:
    """Return the block that ends a response which has begun."""
    if status is Status.OK:
        return OK_TRAILERS
    return literal([(b"grpc-status", b"%d" % status), (b"grpc-message", _encoded(text))])


@lru_cache(maxsize=256)
def trailers_only(status: Status, text: str, *more: tuple[bytes, bytes]) -> bytes:
    """Return the block of a response that is nothing but its end."""
    return HEADERS + trailers(status, text) + literal(more)


@lru_cache(maxsize=16)
def refusal(http_status: int) -> bytes:
    """Return the block of an HTTP error, for what is no gRPC request."""
    return literal([(b":status", b"%d" % http_status), (b"content-length", b"0")])


def _encoded(text: str) -> bytes:
    """Percent-encode all but printable ASCII, and the percent sign itself."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte  # noqa: PLR2004 - the range
        for byte in text.encode("utf-8", "replace")[:_LONGEST_TEXT]
    )
