"""The layout of frames (RFC 9113 section 4.1 and 6), and the few that a server writes."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

from extproc.adapters.http2.errors import ConnectionFault, Violation

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
MAX_FRAME = 16_384  # what we announce, and the least that a peer must take
MAX_WINDOW = 2**31 - 1
STREAM_MASK = 2**31 - 1

# length (24 bits) and type (8), flags, stream identifier
HEADER = Struct(">LBL")
LONG = Struct(">L")
SETTING = Struct(">HL")
PRIORITY_SIZE = 5
PING_SIZE = 8
GOAWAY_LEAST = 8
_GOAWAY = Struct(">LL")


class Kind(IntEnum):
    """Frame types (RFC 9113 section 6)."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Flag(IntFlag):
    """Flags; their meaning depends on the type."""

    NONE = 0x0
    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write one frame."""
    size = len(payload)
    return HEADER.pack(size << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Write SETTINGS."""
    payload = b"".join(SETTING.pack(name, value) for name, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, payload)


SETTINGS_ACK = frame(Kind.SETTINGS, Flag.ACK, 0, b"")


def window_update(stream: int, increment: int) -> bytes:
    """Write WINDOW_UPDATE."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, LONG.pack(increment))


def reset(stream: int, code: int) -> bytes:
    """Write RST_STREAM."""
    return frame(Kind.RST_STREAM, 0, stream, LONG.pack(code))


def go_away(last: int, code: int, text: str = "") -> bytes:
    """Write GOAWAY; the text is for whoever reads the peer's log."""
    return frame(Kind.GOAWAY, 0, 0, _GOAWAY.pack(last, code) + text.encode())


def unpadded(payload: bytes) -> bytes:
    """Take the padding off a frame with the flag PADDED (RFC 9113 section 6.1).

    Raises:
        ConnectionFault: the padding is as long as the frame or longer.
    """
    if not payload:
        raise ConnectionFault(Violation.FRAME_SIZE)
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(Violation.PADDING)
    return payload[1 : len(payload) - padding]


def block_of(flags: int, payload: bytes) -> bytes:
    """Return the header block in a HEADERS frame, without padding and priority.

    Raises:
        ConnectionFault: the frame is shorter than its flags say.
    """
    if flags & Flag.PADDED:
        payload = unpadded(payload)
    if flags & Flag.PRIORITY:
        if len(payload) < PRIORITY_SIZE:
            raise ConnectionFault(Violation.FRAME_SIZE)
        payload = payload[PRIORITY_SIZE:]  # deprecated, RFC 9113 section 5.3.2
    return payload
