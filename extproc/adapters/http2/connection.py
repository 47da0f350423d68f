"""The state machine of one connection, server side: bytes in, events and bytes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from extproc.adapters.http2 import frames, settings
from extproc.adapters.http2.errors import ConnectionFault, StreamFault, Violation
from extproc.adapters.http2.events import (
    AnswerCame,
    AnswerTooLarge,
    ConnectionEnded,
    DataCame,
    RequestCame,
    StreamEnded,
)
from extproc.adapters.http2.fields import FieldReader
from extproc.adapters.http2.frames import Flag, Kind
from extproc.adapters.http2.sending import LAST_CALL, Sending
from extproc.adapters.http2.settings import Setting
from extproc.adapters.http2.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.adapters.http2.fields import Fields
    from extproc.adapters.http2.limits import Limits

T = TypeVar("T")

_DATA, _HEADERS, _RESET = int(Kind.DATA), int(Kind.HEADERS), int(Kind.RST_STREAM)
_CODE = frames.LONG  # an error code, RFC 9113 section 6.4
_CODE_SIZE = _CODE.size
_END_STREAM = int(Flag.END_STREAM)
_END_HEADERS = int(Flag.END_HEADERS)
_PADDED = int(Flag.PADDED)
_PADDED_OR_PRIORITY = int(Flag.PADDED | Flag.PRIORITY)
_LAST_CALL_WITHIN = 5.0
_LARGEST = frames.MAX_FRAME
_STREAM_MASK = frames.STREAM_MASK

Event = RequestCame | DataCame | AnswerCame | AnswerTooLarge | StreamEnded | ConnectionEnded


class _Block:
    """A header block that goes on in CONTINUATION frames."""

    __slots__ = ("flags", "parts", "size", "stream_id")

    def __init__(self, stream_id: int, flags: int, first: bytes) -> None:
        self.stream_id = stream_id
        self.flags = flags
        self.parts = [first]
        self.size = len(first)


class Connection(Sending, Generic[T]):
    """One connection.

    Args:
        interpret: makes of a request's fields what `RequestCame.head` holds; must depend on
            the fields alone, since equal blocks are interpreted once.
        limits: the bounds.
        now: the monotonic time, seconds.
    """

    def __init__(self, interpret: Callable[[Fields], T], limits: Limits, now: float) -> None:
        super().__init__(limits, now)
        self._fields = FieldReader(interpret, limits)
        self._rest = b""
        self._preface_due = True
        self._settings_due = True
        self._block: _Block | None = None
        self._most_streams = limits.streams
        self._stream_window = limits.stream_window
        self._began = self._partial_since = now
        self._on: dict[int, Callable[[int, int, bytes], Event | None]] = {
            Kind.DATA: self._data,
            Kind.HEADERS: self._headers,
            Kind.PRIORITY: self._priority,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._settings,
            Kind.PUSH_PROMISE: self._push,
            Kind.PING: self._ping,
            Kind.GOAWAY: self._went_away,
            Kind.WINDOW_UPDATE: self._window_update,
            Kind.CONTINUATION: self._continuation,
        }

    # ---- bytes in

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes; the answers to control frames are put into `out`.

        Returns:
            What happened, in order; after a `ConnectionEnded` nothing more, ever.
        """
        events: list[Event] = []
        if self.over:
            return events
        self._now = now
        buffer = self._rest + data if self._rest else data
        if not self._rest and self._block is None:
            self._partial_since = now
        try:
            position = self._preface(buffer) if self._preface_due else 0
            if not self._preface_due:
                self._frames_of(buffer, position, events)
        except ConnectionFault as fault:
            self._rest, self._block = b"", None
            events.append(self._end(fault.violation))
        return events

    def _frames_of(  # noqa: C901, PLR0912 - see below
        self, buffer: bytes, position: int, events: list[Event]
    ) -> None:
        """Take frame after frame.

        What nearly all frames are, on streams where nothing is special, is handled right here: a
        call for each costs as much as its work. The rest goes by the rules in full, see `_any`.
        """
        size = len(buffer)
        unpack = frames.HEADER.unpack_from
        streams, known, took = self.streams, self._fields.known, events.append
        usual = self._block is None and not self._settings_due  # what is below alone changes it
        try:
            while size - position >= 9:  # noqa: PLR2004 - HEADER_SIZE
                word, flags, stream_id = unpack(buffer, position)
                start = position + 9
                end = start + (word >> 8)
                if end - start > _LARGEST:
                    raise ConnectionFault(Violation.FRAME_TOO_LARGE)
                if end > size:
                    break
                payload = buffer[start:end]
                position = end
                kind = word & 255
                if usual:
                    stream = streams.get(stream_id)
                    if stream is None:
                        if kind == _HEADERS and flags == _END_HEADERS and self._may_open(stream_id):
                            head = known(payload)
                            if head is not None:
                                took(RequestCame(self._opened(stream_id), head, False))  # noqa: FBT003 - no name, see above
                                continue
                    elif kind == _DATA:
                        if not flags and payload and self._fits(stream, payload):
                            took(DataCame(stream, payload, False))  # noqa: FBT003 - as above
                            continue
                    elif kind == _RESET and end - start == _CODE_SIZE:
                        took(self._was_reset(stream, payload))
                        continue
                event = self._any(kind, flags, stream_id & _STREAM_MASK, payload)
                if event is not None:
                    took(event)
                usual = self._block is None and not self._settings_due
        finally:
            self._rest = buffer[position:] if position < size else b""
            if position and self._block is None:
                self._partial_since = self._now

    def _fits(self, stream: Stream, payload: bytes) -> bool:
        """Take DATA off the windows; False, and nothing has changed, if it may not come like that.

        So it is where the connection is due a WINDOW_UPDATE.
        """
        size = len(payload)
        owed = self._owed + size
        if (
            size > stream.credit
            or size > self._credit
            or owed > self._half_window
            or not stream.remote_open
        ):
            return False
        self._credit -= size
        self._owed = owed
        stream.credit -= size
        return True

    def _may_open(self, stream_id: int) -> bool:
        """Say whether a client may open this stream now (RFC 9113 section 5.1.1)."""
        return (
            self._table.last < stream_id <= _STREAM_MASK  # above: the reserved bit is set
            and stream_id & 1 == 1
            and self._accepting
            and len(self.streams) < self._most_streams
        )

    def _was_reset(self, stream: Stream, payload: bytes) -> StreamEnded:
        self._gone(stream)
        stream.remote_open = stream.local_open = False
        if not stream.answered:
            self._ended_unanswered()
        return StreamEnded(stream, _CODE.unpack(payload)[0])

    def _opened(self, stream_id: int) -> Stream:
        """Open a stream."""
        self._idle_frames.left += 1  # as `earn`, for every stream
        made = self.streams[stream_id] = Stream(stream_id, self._stream_window, self.out.initial)
        self._table.last = self._table.accepted = stream_id
        return made

    def _any(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Event | None:
        """Handle a frame by the rules in full."""
        if self._block is not None or self._settings_due:
            self._check_turn(kind, flags, stream_id)
        handler = self._on.get(kind)
        if handler is None:
            self._spent()  # an extension's frame (RFC 9113 section 5.5)
            return None
        try:
            return handler(flags, stream_id, payload)
        except StreamFault as fault:
            return self._refused(stream_id, fault.violation)

    def _preface(self, buffer: bytes) -> int:
        if not frames.PREFACE.startswith(buffer[: len(frames.PREFACE)]):
            raise ConnectionFault(Violation.PREFACE)
        if len(buffer) < len(frames.PREFACE):
            self._rest = buffer
            return 0
        self._preface_due = False
        return len(frames.PREFACE)

    def _check_turn(self, kind: int, flags: int, stream_id: int) -> None:
        if self._settings_due and (kind != Kind.SETTINGS or flags & Flag.ACK):
            raise ConnectionFault(Violation.FIRST_SETTINGS)
        if self._block is not None and (
            kind != Kind.CONTINUATION or stream_id != self._block.stream_id
        ):
            raise ConnectionFault(Violation.INTERRUPTED_BLOCK)

    def _refused(self, stream_id: int, violation: Violation) -> StreamEnded | None:
        """End one stream for a mistake of the peer."""
        stream = self.streams.get(stream_id)
        if stream is None:
            self.out.control(frames.reset(stream_id, violation.code))
            self._table.reset_here(stream_id)
            self._ended_unanswered()
            return None
        self.reset(stream, violation.code)
        if not stream.answered:
            self._ended_unanswered()
        return StreamEnded(stream, violation.code)

    # ---- frames with work

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if not stream_id:
            raise ConnectionFault(Violation.NEEDS_STREAM)
        if flags & _PADDED_OR_PRIORITY:
            payload = frames.block_of(flags, payload)
        if len(payload) > self._limits.header_block:
            raise ConnectionFault(Violation.BLOCK_TOO_LARGE)
        if not flags & _END_HEADERS:
            self._block = _Block(stream_id, flags, payload)
            self._partial_since = self._now
            return None
        return self._block_ended(flags, stream_id, payload)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        block = self._block
        if block is None:
            raise ConnectionFault(Violation.LOST_CONTINUATION)
        block.parts.append(payload)
        block.size += len(payload)
        if block.size > self._limits.header_block:
            raise ConnectionFault(Violation.BLOCK_TOO_LARGE)
        if len(block.parts) > self._limits.continuations + 1:
            raise ConnectionFault(Violation.TOO_MANY_CONTINUATIONS)
        if not flags & _END_HEADERS:
            return None
        self._block = None
        return self._block_ended(block.flags, stream_id, b"".join(block.parts))

    def _block_ended(self, flags: int, stream_id: int, block: bytes) -> Event | None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            return self._trailers(flags, stream, block)
        table = self._table
        if stream_id <= table.last or not stream_id & 1:
            if not table.was_reset_here(stream_id):
                raise ConnectionFault(Violation.STREAM_ID)
            self._fields.pass_over(block)
            self._spent()  # it was under way when we reset the stream
            return None
        table.last = stream_id
        if not self._accepting:
            self._fields.pass_over(block)
            self._spent()  # after GOAWAY (RFC 9113 section 6.8)
            return None
        head = self._fields.request(block)
        if len(self.streams) >= self._most_streams:
            raise StreamFault(Violation.TOO_MANY_STREAMS)
        stream = self._opened(stream_id)
        stream.remote_open = not flags & _END_STREAM
        return RequestCame(stream, head, ended=not stream.remote_open)

    def _trailers(self, flags: int, stream: Stream, block: bytes) -> Event:
        self._fields.pass_over(block)
        if not stream.remote_open:
            raise StreamFault(Violation.HALF_CLOSED)
        if not flags & _END_STREAM:
            raise StreamFault(Violation.TRAILERS_WITHOUT_END)
        self._remote_ended(stream)
        return DataCame(stream, b"", ended=True)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        size = len(payload)
        self._account(size)
        if flags & _PADDED:
            payload = frames.unpadded(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id, data=True)
            return None
        if not stream.remote_open:
            raise StreamFault(Violation.HALF_CLOSED)
        stream.credit -= size
        if stream.credit < 0:
            raise StreamFault(Violation.WINDOW_EXCEEDED)
        if size != len(payload):
            self.took(stream, size - len(payload))
        if flags & _END_STREAM:
            self._remote_ended(stream)
            return DataCame(stream, payload, ended=True)
        if not payload:
            self._spent()
            return None
        return DataCame(stream, payload, ended=False)

    def _remote_ended(self, stream: Stream) -> None:
        stream.remote_open = False
        if not stream.local_open:
            self._gone(stream)

    def _stray(self, stream_id: int, *, data: bool = False) -> None:
        """Judge a frame on a stream that isn't open."""
        if not stream_id:
            raise ConnectionFault(Violation.NEEDS_STREAM)
        if self._table.is_idle(stream_id):
            raise ConnectionFault(Violation.IDLE_STREAM)
        if data and self._accepting and not self._table.was_reset_here(stream_id):
            raise StreamFault(Violation.CLOSED_STREAM)
        self._spent()

    def _reset(self, _flags: int, stream_id: int, payload: bytes) -> Event | None:
        """Judge a reset of a stream that isn't open; for an open one see `_was_reset`."""
        if len(payload) != _CODE.size:
            raise ConnectionFault(Violation.FRAME_SIZE)
        self._stray(stream_id)
        return None

    # ---- frames without

    def _priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(Violation.NEEDS_STREAM)
        if len(payload) != frames.PRIORITY_SIZE:
            raise ConnectionFault(Violation.FRAME_SIZE)
        self._spent()

    def _push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(Violation.PUSH)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Violation.NEEDS_CONNECTION)
        self._spent()
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(Violation.FRAME_SIZE)
            self._fields.settled()
            return
        self._settings_due = False
        values = list(settings.read(payload))
        # First the acknowledgement: frames that use the new values must come behind it.
        self.out.control(frames.SETTINGS_ACK)
        for name, value in values:
            if name == Setting.INITIAL_WINDOW_SIZE:
                self.out.resize(value, self.streams.values(), self._now)
            elif name == Setting.MAX_FRAME_SIZE:
                self.out.largest_frame(value)
            elif name == Setting.HEADER_TABLE_SIZE:
                self.out.table_size(value)
        self._collect()

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Violation.NEEDS_CONNECTION)
        if len(payload) != frames.PING_SIZE:
            raise ConnectionFault(Violation.FRAME_SIZE)
        self._spent()
        if not flags & Flag.ACK:
            self.out.control(frames.frame(Kind.PING, Flag.ACK, 0, payload))
        elif payload == LAST_CALL and self._last_call is not None:
            self.stop_accepting()

    def _went_away(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Violation.NEEDS_CONNECTION)
        if len(payload) < frames.GOAWAY_LEAST:
            raise ConnectionFault(Violation.FRAME_SIZE)
        self._spent()  # a client's GOAWAY is about pushed streams, and we push none

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.LONG.size:
            raise ConnectionFault(Violation.FRAME_SIZE)
        self._spent()
        by = frames.LONG.unpack(payload)[0] & frames.MAX_WINDOW
        if not stream_id:
            if not by:
                raise ConnectionFault(Violation.ZERO_INCREMENT)
            self.out.widen_all(by, self._now)
            self._collect()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        if not by:
            raise StreamFault(Violation.ZERO_INCREMENT)
        self.out.widen(stream, by, self._now)
        self._collect()

    def tick(self, now: float) -> list[Event]:
        """Look at the clock, about once a second.

        Returns:
            What the time brought about.
        """
        if self.over:
            return []
        self._now = now
        limits = self._limits
        if self._settings_due and now - self._began > limits.handshake:
            return [self._end(Violation.HANDSHAKE_TIMEOUT)]
        if (self._rest or self._block) and now - self._partial_since > limits.frame_within:
            return [self._end(Violation.SLOW_FRAME)]
        if not self.streams and now - self._busy > limits.idle:
            self.announce_end()
        if self._last_call is not None and now - self._last_call > _LAST_CALL_WITHIN:
            self.stop_accepting()
        ended: list[Event] = []
        for stream in self.out.stalled(now - limits.send_within):
            self.reset(stream, Violation.UNREAD.code)
            ended.append(StreamEnded(stream, Violation.UNREAD.code))
        return ended
