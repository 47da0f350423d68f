"""What a peer can do wrong, what it is told, and which section of RFC 9113 says so."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class ErrorCode(IntEnum):
    """Error codes (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        code: what the peer is told.
        section: of RFC 9113, or the setting of ours that was passed.
        text: what the peer did.
    """

    code: ErrorCode
    section: str
    text: str


_E = ErrorCode


class Violation(Enum):
    """Everything a peer can do wrong; whether a stream or the connection ends is the raiser's."""

    PREFACE = Row(_E.PROTOCOL_ERROR, "3.4", "no client preface")
    FIRST_SETTINGS = Row(_E.PROTOCOL_ERROR, "3.4", "the first frame is not SETTINGS")
    FRAME_TOO_LARGE = Row(_E.FRAME_SIZE_ERROR, "4.2", "a frame above SETTINGS_MAX_FRAME_SIZE")
    FRAME_SIZE = Row(_E.FRAME_SIZE_ERROR, "6", "a frame of the wrong size for its type")
    PADDING = Row(_E.PROTOCOL_ERROR, "6.1", "padding longer than the frame")
    NEEDS_STREAM = Row(_E.PROTOCOL_ERROR, "6", "a stream's frame on stream 0")
    NEEDS_CONNECTION = Row(_E.PROTOCOL_ERROR, "6", "a connection's frame on a stream")
    INTERRUPTED_BLOCK = Row(_E.PROTOCOL_ERROR, "6.10", "another frame inside a header block")
    LOST_CONTINUATION = Row(_E.PROTOCOL_ERROR, "6.10", "CONTINUATION without a header block")
    STREAM_ID = Row(_E.PROTOCOL_ERROR, "5.1.1", "an even or an earlier stream identifier")
    IDLE_STREAM = Row(_E.PROTOCOL_ERROR, "5.1", "a frame on an idle stream")
    CLOSED_STREAM = Row(_E.STREAM_CLOSED, "5.1", "a frame on a closed stream")
    HALF_CLOSED = Row(_E.STREAM_CLOSED, "5.1", "a frame after END_STREAM")
    PUSH = Row(_E.PROTOCOL_ERROR, "8.4", "PUSH_PROMISE from a client")
    COMPRESSION = Row(_E.COMPRESSION_ERROR, "4.3", "a header block that can't be decoded")
    SETTING_VALUE = Row(_E.PROTOCOL_ERROR, "6.5.2", "a setting out of its range")
    WINDOW_SETTING = Row(_E.FLOW_CONTROL_ERROR, "6.5.2", "an initial window above 2^31-1")
    ZERO_INCREMENT = Row(_E.PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE by zero")
    WINDOW_OVERFLOW = Row(_E.FLOW_CONTROL_ERROR, "6.9.1", "a window above 2^31-1")
    WINDOW_EXCEEDED = Row(_E.FLOW_CONTROL_ERROR, "6.9.1", "more bytes than our window")
    MALFORMED = Row(_E.PROTOCOL_ERROR, "8.1.1", "a malformed request")
    TRAILERS_WITHOUT_END = Row(_E.PROTOCOL_ERROR, "8.1", "trailers without END_STREAM")
    TOO_MANY_STREAMS = Row(_E.REFUSED_STREAM, "streams", "more streams than we announced")
    BLOCK_TOO_LARGE = Row(_E.ENHANCE_YOUR_CALM, "header_block", "a header block too large")
    TOO_MANY_CONTINUATIONS = Row(
        _E.ENHANCE_YOUR_CALM, "continuations", "too many CONTINUATION frames"
    )
    FIELDS_TOO_LARGE = Row(_E.ENHANCE_YOUR_CALM, "header_list", "a header list too large")
    TOO_MANY_FIELDS = Row(_E.ENHANCE_YOUR_CALM, "header_fields", "too many header fields")
    RAPID_RESET = Row(_E.ENHANCE_YOUR_CALM, "unanswered", "too many streams that ended unanswered")
    IDLE_FRAMES = Row(_E.ENHANCE_YOUR_CALM, "idle_frames", "too many frames that carry no work")
    UNREAD = Row(_E.ENHANCE_YOUR_CALM, "unread", "answers that the peer doesn't take")
    HANDSHAKE_TIMEOUT = Row(_E.SETTINGS_TIMEOUT, "handshake", "no preface and SETTINGS in time")
    SLOW_FRAME = Row(_E.ENHANCE_YOUR_CALM, "frame_within", "a frame or block that doesn't end")

    @property
    def code(self) -> ErrorCode:
        """What the peer is told."""
        return self.value.code

    @property
    def text(self) -> str:
        """What the peer did, with the source of the rule."""
        return f"{self.value.text} ({self.value.section})"


class ConnectionFault(Exception):
    """The connection ends with GOAWAY (RFC 9113 section 5.4.1)."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.text)
        self.violation = violation


class StreamFault(Exception):
    """One stream ends with RST_STREAM (RFC 9113 section 5.4.2)."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.text)
        self.violation = violation
