"""What a request's header fields say: the method and the deadline, or why it is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.adapters.local import statuses
from extproc.adapters.local.statuses import Status

if TYPE_CHECKING:
    from extproc.adapters.http2.fields import Fields

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?(;.*)?\Z")
_UNSUPPORTED_MEDIA, _METHOD_NOT_ALLOWED = 415, 405


@dataclass(frozen=True, slots=True)
class Head:
    """A request for a call.

    Attributes:
        method: `/package.Service/Method`.
        timeout: seconds that the client waits; None for as long as it takes.
        refusal: a header block that ends the stream at once; None for a call that may begin.
    """

    method: str
    timeout: float | None = None
    refusal: bytes | None = None


def interpret(fields: Fields) -> Head:
    """Read a request's fields (gRPC over HTTP/2, "Requests")."""
    found = dict(fields)
    method = found[b":path"].decode("latin-1")
    refusal = _refusal(found)
    timeout = found.get(b"grpc-timeout")
    if refusal is not None or timeout is None:
        return Head(method, refusal=refusal)
    match = _TIMEOUT.match(timeout)
    if match is None:
        text = "grpc-timeout is no number of at most 8 digits with a unit"
        return Head(method, refusal=statuses.trailers_only(Status.INTERNAL, text))
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not seconds:
        block = statuses.trailers_only(Status.DEADLINE_EXCEEDED, "no time was given")
        return Head(method, refusal=block)
    return Head(method, seconds)


def _refusal(found: dict[bytes, bytes]) -> bytes | None:
    if found[b":method"] != b"POST":
        return statuses.refusal(_METHOD_NOT_ALLOWED)
    if not _CONTENT_TYPE.match(found.get(b"content-type", b"")):
        return statuses.refusal(_UNSUPPORTED_MEDIA)
    if found.get(b"grpc-encoding", b"identity") != b"identity":
        text = "only grpc-encoding identity is served here"
        more = (b"grpc-accept-encoding", b"identity")
        return statuses.trailers_only(Status.UNIMPLEMENTED, text, more)
    return None
