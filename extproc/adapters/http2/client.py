"""The state machine of one connection for the side that makes requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from extproc.adapters.http2 import frames, settings
from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.errors import ConnectionFault, ErrorCode, StreamFault, Violation
from extproc.adapters.http2.events import AnswerCame, AnswerTooLarge, StreamEnded
from extproc.adapters.http2.frames import Flag, Kind
from extproc.adapters.http2.replies import Head, ReplyReader
from extproc.adapters.http2.streams import Stream

if TYPE_CHECKING:
    from extproc.adapters.http2.connection import Event
    from extproc.adapters.http2.limits import Limits


_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)
_END_STREAM = int(Flag.END_STREAM)
_END_HEADERS = int(Flag.END_HEADERS)
_END_BOTH = _END_STREAM | _END_HEADERS
_LAST_STREAM = 2**31 - 3
_PADDED = int(Flag.PADDED)
_FINAL = 200
_EARNED = 8  # frames without work that each request lets the peer send: windows, pings


class Room(Protocol):
    """What the bodies of several answers may hold together.

    Attributes:
        left: bytes.
    """

    left: int

    def takes(self, size: int) -> bool:
        """Take so many bytes; False, and nothing is taken, if that many aren't left."""


class Asked(Stream):
    """A stream with a request of ours and what has come of its answer.

    Attributes:
        head: status and fields; None until they came.
        pieces: of the body.
        size: of the pieces together.
        most: the largest body that is wanted.
        room: what its body takes is taken of this; None for no other bound.
        trailers_came: the fields behind the body.
    """

    head: Head | None = None
    size = 0
    trailers_came: tuple[tuple[str, str], ...] = ()

    def __init__(
        self, identifier: int, credit: int, window: int, most: int, room: Room | None
    ) -> None:
        self.id = identifier
        self.credit = credit
        self.window = window
        self.most = most
        self.room = room
        self.pieces: list[bytes] = []


class ClientConnection(Connection[Head]):
    """One connection to a server; answers are gathered and told when they are whole.

    Attributes:
        closing: the server takes no more streams; those it took go on.
        peer_streams: how many streams the server takes at once.
    """

    closing = False
    peer_streams = settings.STREAMS_UNTIL_TOLD

    def __init__(self, limits: Limits, now: float) -> None:
        super().__init__(_unused, limits, now)
        self._preface_due = False
        self._fields = self._replies = ReplyReader(limits)  # one, as more than `_fields` knows

    def _greeting(self) -> bytes:
        return frames.PREFACE + settings.announced_by_client(self._limits)

    # ---- requests

    @property
    def takes_more(self) -> bool:
        """Say whether a request may be made here."""
        return not (self.closing or self.over) and (
            len(self.streams) < self.peer_streams and self._table.last < _LAST_STREAM
        )

    def request(
        self, block: bytes, body: bytes, most: int, now: float, room: Room | None = None
    ) -> Asked:
        """Make a request, where `takes_more`.

        Args:
            block: its header block, which must fit into one frame.
            body: bytes; empty for none.
            most: the largest body of an answer that is wanted.
            now: the monotonic time, seconds.
            room: what the body of an answer is taken of; None for no other bound.
        """
        table = self._table
        number = table.last + 2 if table.last else 1
        table.last = number
        stream = Asked(number, self._stream_window, self.out.initial, most, room)
        self.streams[number] = stream
        self._idle_frames.left += _EARNED
        block = self.out.opening(block)
        size = len(block)
        flags = _END_HEADERS if body else _END_BOTH
        header = frames.HEADER.pack(size << 8 | _HEADERS, flags, number)
        self.out.control(header + block)
        if body:
            self.out.data(stream, body, now)
            self.out.close(stream)
        stream.local_open = stream.closes
        return stream

    def cancel(self, stream: Stream) -> None:
        """Tell the server that nobody waits for an answer any more."""
        self.reset(stream, ErrorCode.CANCEL)

    # ---- bytes in

    def _frames_of(  # noqa: C901, PLR0912 - see below
        self, buffer: bytes, position: int, events: list[Event]
    ) -> None:
        """Take frame after frame.

        What answers that nothing is special about are made of is handled right here: a block that
        came before, pieces of a body, the end. A call for each frame costs as much as its work.
        """
        size = len(buffer)
        unpack, known = frames.HEADER.unpack_from, self._replies.known_reply
        streams = cast("dict[int, Asked]", self.streams)  # nothing else is ever opened here
        usual = self._block is None  # what is below alone changes it
        try:
            while size - position >= frames.HEADER_SIZE:
                word, flags, stream_id = unpack(buffer, position)
                kind, start = word & 255, position + frames.HEADER_SIZE
                end = start + (word >> 8)
                if end - start > frames.MAX_FRAME:
                    raise ConnectionFault(Violation.FRAME_TOO_LARGE)
                if end > size:
                    break
                payload = buffer[start:end]
                position = end
                stream = streams.get(stream_id) if usual else None
                if stream is not None:
                    if kind == _DATA:
                        if payload:
                            if flags <= _END_STREAM and self._took_piece(stream, payload):
                                if flags:
                                    self._remote_ended(stream)
                                    events.append(AnswerCame(stream))
                                else:
                                    self.took(stream, end - start)
                                continue
                        elif (
                            flags == _END_STREAM and stream.remote_open and stream.head is not None
                        ):
                            self._remote_ended(stream)
                            events.append(AnswerCame(stream))
                            continue
                    elif kind == _HEADERS and flags == _END_HEADERS and stream.head is None:
                        head = known(payload)
                        if head is not None and head.status >= _FINAL:
                            stream.head = head
                            stream.answered = True
                            continue
                event = self._any(kind, flags, stream_id & frames.STREAM_MASK, payload)
                if event is not None:
                    events.append(event)
                usual = self._block is None
        finally:
            self._rest = buffer[position:] if position < size else b""
            if position and self._block is None:
                self._partial_since = self._now

    def _took_piece(self, stream: Asked, payload: bytes) -> bool:
        """Take a piece of a body; False, and nothing has changed, if it may not come like that."""
        size, room = len(payload), stream.room
        whole = stream.size + size
        if stream.head is None or whole > stream.most or not (room is None or size <= room.left):
            return False
        if not self._fits(stream, payload):
            return False
        if room is not None:
            room.left -= size
        stream.size = whole
        stream.pieces.append(payload)
        return True

    # ---- what differs for a client

    def _block_ended(self, flags: int, stream_id: int, block: bytes) -> Event | None:
        stream = self.streams.get(stream_id)
        if not isinstance(stream, Asked):
            self._replies.pass_over(block)
            self._stray(stream_id)
            return None
        ended = flags & _END_STREAM
        if not stream.remote_open:
            raise StreamFault(Violation.HALF_CLOSED)
        if stream.head is not None:
            stream.trailers_came = self._replies.trailers(block)
            if not ended:
                raise StreamFault(Violation.TRAILERS_WITHOUT_END)
            self._remote_ended(stream)
            return AnswerCame(stream)
        head = self._replies.reply(block)
        if head.status < _FINAL:
            if ended:
                raise StreamFault(Violation.MALFORMED)
            self._spent()  # an interim answer (RFC 9110 section 15.2)
            return None
        stream.head = head
        stream.answered = True
        if ended:
            self._remote_ended(stream)
            return AnswerCame(stream)
        return None

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        size = len(payload)
        self._account(size)
        if flags & _PADDED:
            payload = frames.unpadded(payload)
        stream = self.streams.get(stream_id)
        if not isinstance(stream, Asked):
            self._stray(stream_id, data=True)
            return None
        if stream.head is None:
            raise StreamFault(Violation.MALFORMED)
        if not stream.remote_open:
            raise StreamFault(Violation.HALF_CLOSED)
        stream.credit -= size
        if stream.credit < 0:
            raise StreamFault(Violation.WINDOW_EXCEEDED)
        if payload:
            whole, room = stream.size + len(payload), stream.room
            fits = whole <= stream.most
            if not fits or not (room is None or room.takes(len(payload))):
                self.cancel(stream)
                return AnswerTooLarge(stream, together=fits)
            stream.size = whole
            stream.pieces.append(payload)
        if flags & _END_STREAM:
            self._remote_ended(stream)
            return AnswerCame(stream)
        if size:
            self.took(stream, size)
        else:
            self._spent()
        return None

    def _remote_ended(self, stream: Stream) -> None:
        if stream.local_open and (stream.waiting or stream.closes):
            # The answer is whole, so the rest of the request is for nobody.
            self.reset(stream, ErrorCode.CANCEL)
            return
        stream.remote_open = stream.local_open = False
        self._gone(stream)

    def _local_ended(self, stream: Stream) -> None:
        """Our side is done: nothing to do, the answer may be under way."""

    def _collect(self) -> None:
        """As `_local_ended`."""

    def _ended_unanswered(self) -> None:
        """A server may refuse as much as it likes."""

    def _reset(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        stream = self.streams.get(stream_id)
        if stream is None or len(payload) != frames.LONG.size:
            return super()._reset(flags, stream_id, payload)
        return self._was_reset(stream, payload)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        super()._settings(flags, stream_id, payload)
        for name, value in settings.read(payload):
            if name == settings.Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value

    def _went_away(self, flags: int, stream_id: int, payload: bytes) -> None:
        super()._went_away(flags, stream_id, payload)
        self.closing = True
        self._taken_up_to = frames.LONG.unpack_from(payload)[0] & frames.STREAM_MASK

    _taken_up_to = frames.MAX_WINDOW

    def refused(self) -> list[StreamEnded]:
        """Return, once, the streams that the server said it never looked at."""
        lost = [stream for number, stream in self.streams.items() if number > self._taken_up_to]
        for stream in lost:
            stream.remote_open = stream.local_open = False
            self._gone(stream)
        return [StreamEnded(stream, ErrorCode.REFUSED_STREAM) for stream in lost]

    @property
    def drained(self) -> bool:
        """Say whether nothing more will happen here."""
        return self.over or (self.closing and not self.streams)


def _unused(_fields: object) -> Head:
    raise ConnectionFault(Violation.STREAM_ID)  # servers make no requests
