"""Bytes of one HTTP/1.1 request → a message or a rejection, as the compiled Envoy reads them.

Any bytes give one of the two. What is accepted and refused was measured on Envoy 1.40 with the
settings of `envoy_config.listener`, and is compared with it by a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

LARGEST_HEAD = 60 << 10
MOST_HEADERS = 100
_LARGEST_LENGTH = 2**64 - 1
_BLANKS = re.compile(r"[ \t]+")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(r"[\x21-\x7e]+\Z")
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\Z")
_REASONS = {
    404: "no_route",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    426: "upgrade_required",
    431: "headers_too_large",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """Envoy itself answers; no plugin sees the request.

    Attributes:
        status: of the answer.
        details: Envoy's response code details, which its record has as the reason.
        why: for people.
    """

    status: int
    details: str
    why: str

    @property
    def reason(self) -> str:
        """Return the reason that the client reads in the problem's type."""
        return _REASONS.get(self.status, "malformed")


@dataclass(frozen=True, slots=True)
class Message:
    """A request as the codec reads it.

    Attributes:
        method: as sent.
        target: of the request line, as sent.
        fields: names in lower case and values, in order.
        body: without its framing; as much of it as came.
        framed: a body was announced, be it an empty one.
        cut: more of it was announced than came, which Envoy waits for.
        rest: bytes behind the request; not a part of it.
        tidied: what the codec itself changed.
    """

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""
    framed: bool = False
    cut: bool = False
    rest: bytes = b""
    tidied: tuple[str, ...] = ()

    def values(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for known, value in self.fields if known == name]


class _Refusal(Exception):  # one way out of many small steps
    def __init__(self, status: int, details: str, why: str) -> None:
        super().__init__(why)
        self.rejected = Rejected(status, details, why)


def read(data: bytes) -> Message | Rejected:
    """Read one request."""
    try:
        lines, behind = _head(data)
        method, target = _request_line(lines[0])
        tidied: list[str] = []
        fields = _fields(lines[1:], tidied)
        message = Message(method, target, fields, tidied=tuple(tidied))
        return _with_body(message, behind)
    except _Refusal as refusal:
        return refusal.rejected


def _malformed(why: str, details: str = "http1.codec_error") -> _Refusal:
    return _Refusal(400, details, why)


def _head(data: bytes) -> tuple[list[str], bytes]:
    """Cut the head into lines; a line may end with LF alone."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    lines: list[str] = []
    while True:
        end = data.find(b"\n", start)
        if end < 0:
            raise _too_large(data) or _Refusal(
                408, "request_header_timeout", "the head doesn't end with an empty line"
            )
        line = data[start:end].rstrip(b"\r").decode("latin-1")
        start = end + 1
        if not line:
            break
        lines.append(line)
    too_large = _too_large(data[:start])
    if too_large is not None:
        raise too_large
    if not lines:
        raise _malformed("there is no request line")
    return lines, data[start:]


def _too_large(head: bytes) -> _Refusal | None:
    if len(head) <= LARGEST_HEAD:
        return None
    return _Refusal(431, "http1.headers_too_large", f"the head is over {LARGEST_HEAD >> 10} KiB")


def _request_line(line: str) -> tuple[str, str]:
    if line[0] in " \t":
        raise _malformed("the request line begins with a blank")
    parts = _BLANKS.split(line.rstrip(" \t"))
    if not _NAME.match(parts[0]):
        raise _malformed(f"{parts[0]} is no method")
    if len(parts) == 1 or len(parts) > 3:  # noqa: PLR2004 - method, target, version
        raise _malformed("the request line isn't method, target and version")
    if not _TARGET.match(parts[1]):
        raise _malformed("the target holds a character outside printable ASCII")
    if len(parts) == 2 or (_VERSION.match(parts[2]) and parts[2] != "HTTP/1.1"):  # noqa: PLR2004 - as above
        raise _Refusal(426, "low_version", "only HTTP/1.1 is spoken in text")
    if parts[2] != "HTTP/1.1":
        raise _malformed(f"{parts[2]} is no version")
    return parts[0], parts[1]


def _fields(lines: list[str], tidied: list[str]) -> tuple[tuple[str, str], ...]:
    fields = [_field(line, tidied) for line in _unfolded(lines, tidied)]
    if len(fields) > MOST_HEADERS:
        raise _Refusal(431, "http1.too_many_headers", f"more than {MOST_HEADERS} header fields")
    return tuple(fields)


def _unfolded(lines: list[str], tidied: list[str]) -> list[str]:
    """Join folded lines (RFC 9112 section 5.2) as Envoy does: the line break alone goes."""
    whole: list[str] = []
    for line in lines:
        if line[0] not in " \t":
            whole.append(line)
        elif not whole:
            raise _malformed("the first header line begins with a blank")
        else:
            whole[-1] += line
            tidied.append("a folded header line was joined")
    return whole


def _field(line: str, tidied: list[str]) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.match(name):
        raise _malformed("a header line has no name, or one that isn't a token")
    if "_" in name:
        raise _malformed(f"the header name {name} has an underscore", "http1.unexpected_underscore")
    if "\r" in value:
        value = value.replace("\r", "")
        tidied.append(f"a carriage return inside {name.lower()} was taken out")
    if _CONTROL.search(value):
        raise _malformed(f"{name.lower()} holds a control character", "http1.invalid_characters")
    return name.lower(), value.strip(" \t")


def _with_body(message: Message, behind: bytes) -> Message:
    codings, lengths = message.values("transfer-encoding"), message.values("content-length")
    if codings:
        if lengths:
            raise _malformed(
                "both content-length and transfer-encoding",
                "http1.content_length_and_chunked_not_allowed",
            )
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise _malformed(
                "the only transfer coding is chunked", "http1.invalid_transfer_encoding"
            )
        body, left = _chunks(behind)
        return replace(message, body=body, framed=True, cut=left is None, rest=left or b"")
    if lengths:
        size = _length(lengths)
        cut = len(behind) < size
        return replace(message, body=behind[:size], framed=True, cut=cut, rest=behind[size:])
    return replace(message, rest=behind)


def _length(values: list[str]) -> int:
    value = values[0]
    good = len(values) == 1 and value.isascii() and value.isdigit()
    if not good or len(value) > 40 or int(value) > _LARGEST_LENGTH:  # noqa: PLR2004 - int() stays quick
        raise _malformed("content-length isn't one number")
    return int(value)


def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """Read chunks and trailers (RFC 9112 section 7.1); trailers are dropped.

    Returns:
        The body, and what is behind it; None where its end didn't come.
    """
    body = b""
    while True:
        line, rest = _line(data)
        if rest is None:
            return body, None
        found = _CHUNK.match(line)
        if found is None:
            raise _malformed("a chunk has no size")
        size = int(found[1], 16)
        if size == 0:
            return body, _behind_trailers(rest)
        if len(rest) < size + 2:
            return body + rest[:size], None
        if rest[size : size + 2] != b"\r\n":
            raise _malformed("a chunk is longer than its size")
        body, data = body + rest[:size], rest[size + 2 :]


def _line(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a line and what is behind it; None where it doesn't end."""
    line, end, rest = data.partition(b"\r\n")
    if end:
        return line, rest
    if b"\n" in line:
        raise _malformed("a chunk has no size")
    return line, None


def _behind_trailers(data: bytes) -> bytes | None:
    line, rest = _line(data)
    while line and rest is not None:
        line, rest = _line(rest)
    return rest
