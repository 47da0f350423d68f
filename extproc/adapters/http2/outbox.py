"""What is to be sent: at once where the peer's windows allow, else in turn when they do.

RFC 9113 section 5.2 and 6.9. Control frames and header blocks never wait; only DATA does, and
trailers behind it.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

from extproc.adapters.http2 import frames
from extproc.adapters.http2.errors import ConnectionFault, StreamFault, Violation
from extproc.adapters.http2.frames import Flag, Kind
from extproc.adapters.http2.settings import DEFAULT_TABLE, DEFAULT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.adapters.http2.limits import Budget, Limits
    from extproc.adapters.http2.streams import Stream

_HEADER = frames.HEADER.pack
_ID = frames.LONG.pack
_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)
_END_HEADERS = int(Flag.END_HEADERS)
_END_STREAM = int(Flag.END_STREAM)
_END_BOTH = int(Flag.END_HEADERS | Flag.END_STREAM)

# Each full DATA frame of ours lets the peer send this many WINDOW_UPDATEs and the like; one of
# fewer bytes earns nothing, so that windows of one byte don't pay for themselves.
_EARNED = 4
_FULL = 512
_NO_TABLE = b"\x20"  # a dynamic table size update to 0, RFC 7541 section 6.3


@lru_cache(maxsize=4096)
def _around(block: int, data: int) -> tuple[bytes, bytes]:
    """Return the headers of a HEADERS and a DATA frame of these sizes, without the stream."""
    return (
        _HEADER(block << 8 | _HEADERS, _END_HEADERS, 0)[:-4],
        _HEADER(data << 8 | _DATA, 0, 0)[:-4],
    )


class Outbox:
    """The bytes for the peer, and the streams whose data waits.

    Attributes:
        initial: what a new stream may send.
        unread: bytes that wait for a window.
        bulk: bytes of large answers among what `take` will give.
    """

    def __init__(self, limits: Limits, idle: Budget) -> None:
        self._limits = limits
        self._idle = idle
        self._frames: list[bytes] = []
        self._window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self._max_frame = frames.MAX_FRAME
        self._blocked: dict[int, Stream] = {}
        self._begins = b""
        self._table_size = DEFAULT_TABLE
        self.unread = 0
        self.bulk = 0

    def __bool__(self) -> bool:
        """Say whether there is something to take."""
        return bool(self._frames)

    def take(self) -> bytes:
        """Hand over everything that may be sent now."""
        taken = b"".join(self._frames)
        self._frames.clear()
        self.bulk = 0
        return taken

    def control(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._frames.append(frame)

    def headers(self, stream: Stream, block: bytes) -> None:
        """Send a header block that begins a response."""
        if self._begins:
            block = self.opening(block)
        size = len(block)
        header = _HEADER(size << 8 | _HEADERS, _END_HEADERS, stream.id)
        self._frames.append(header + block)

    def response(self, stream: Stream, block: bytes, data: bytes, now: float) -> None:
        """Send a header block and data, together where the windows allow.

        Raises:
            StreamFault: the peer lets too much wait.
        """
        size = len(data)
        if self._begins:
            block = self.opening(block)
        if size > stream.window or size > self._window or size > self._max_frame:
            self.headers(stream, block)
            self.data(stream, data, now)
            return
        stream.window -= size
        self._window -= size
        first, between = _around(len(block), size)
        identifier = _ID(stream.id)
        self._frames += (first, identifier, block, between, identifier, data)

    def trailers(self, stream: Stream, block: bytes) -> None:
        """Send a header block that ends the stream, behind what waits."""
        if stream.waiting:
            stream.trailers = block
            return
        if self._begins:
            block = self.opening(block)
        size = len(block)
        self._frames.append(_HEADER(size << 8 | _HEADERS, _END_BOTH, stream.id) + block)

    def close(self, stream: Stream) -> None:
        """End the stream without trailers, behind what waits."""
        if stream.waiting:
            stream.closes = True
            return
        self._frames.append(_HEADER(_DATA, _END_STREAM, stream.id))

    def data(self, stream: Stream, data: bytes, now: float) -> None:
        """Send data, or keep it until the windows allow.

        Raises:
            StreamFault: the peer lets too much wait.
        """
        size = len(data)
        fits = size <= stream.window and size <= self._window and size <= self._max_frame
        if fits and not stream.waiting:
            stream.window -= size
            self._window -= size
            self._frames.append(_HEADER(size << 8 | _DATA, 0, stream.id) + data)
            return
        if self.unread + size > self._limits.unread:
            raise StreamFault(Violation.UNREAD)
        if stream.waiting is None:
            stream.waiting = deque()
        if not stream.waiting:
            stream.since = now
        stream.waiting.append(memoryview(data))  # it is cut often, and a cut copies nothing
        self.unread += size
        self._blocked[stream.id] = stream
        self._flow(stream, now)

    def _flow(self, stream: Stream, now: float) -> None:
        """Send as much of what waits on a stream as the windows allow."""
        waiting = stream.waiting
        while waiting:
            data = waiting[0]
            most = min(stream.window, self._window, self._max_frame)
            if most <= 0:
                return
            piece = data if len(data) <= most else data[:most]
            self._piece(stream, piece, now)
            if len(piece) == len(data):
                waiting.popleft()
            else:
                waiting[0] = data[most:]
        self._blocked.pop(stream.id, None)
        if stream.trailers is not None:
            block, stream.trailers = stream.trailers, None
            self.trailers(stream, block)
        if stream.closes:
            stream.closes = False
            self.close(stream)

    def _piece(self, stream: Stream, piece: memoryview, now: float) -> None:
        size = len(piece)
        stream.window -= size
        self._window -= size
        self.unread -= size
        self.bulk += size
        stream.since = now
        if size >= _FULL:
            self._idle.earn(_EARNED)
        self._frames.append(_HEADER(size << 8 | _DATA, 0, stream.id) + piece)

    def forget(self, stream: Stream) -> None:
        """Drop what waits on a stream that has ended."""
        if stream.waiting:
            self.unread -= sum(map(len, stream.waiting))
            stream.waiting.clear()
            stream.trailers = None
            stream.closes = False
            self._blocked.pop(stream.id, None)

    def widen(self, stream: Stream, by: int, now: float) -> None:
        """Take a stream's WINDOW_UPDATE.

        Raises:
            StreamFault: the window would pass 2^31-1.
        """
        if stream.window + by > frames.MAX_WINDOW:
            raise StreamFault(Violation.WINDOW_OVERFLOW)
        stream.window += by
        if stream.waiting:
            self._flow(stream, now)

    def widen_all(self, by: int, now: float) -> None:
        """Take the connection's WINDOW_UPDATE.

        Raises:
            ConnectionFault: the window would pass 2^31-1.
        """
        if self._window + by > frames.MAX_WINDOW:
            raise ConnectionFault(Violation.WINDOW_OVERFLOW)
        self._window += by
        # Who was served goes to the end, so that none starves (RFC 9113 section 5.2.1).
        for stream in list(self._blocked.values()):
            if self._window <= 0:
                return
            del self._blocked[stream.id]
            self._blocked[stream.id] = stream
            self._flow(stream, now)

    def resize(self, initial: int, streams: Iterable[Stream], now: float) -> None:
        """Take SETTINGS_INITIAL_WINDOW_SIZE, which changes every stream (RFC 9113 section 6.9.2).

        Raises:
            ConnectionFault: a window would pass 2^31-1.
        """
        by = initial - self.initial
        self.initial = initial
        for stream in streams:
            if stream.window + by > frames.MAX_WINDOW:
                raise ConnectionFault(Violation.WINDOW_OVERFLOW)
            stream.window += by
        for stream in list(self._blocked.values()):
            self._flow(stream, now)

    def table_size(self, size: int) -> None:
        """Take SETTINGS_HEADER_TABLE_SIZE.

        Our blocks need no table, but that it shrank must be said before the next of them (RFC 7541
        section 4.2), else its decoder ends the connection. What is said is 0, so once is enough.
        """
        if size < self._table_size:
            self._table_size, self._begins = 0, _NO_TABLE

    def opening(self, block: bytes) -> bytes:
        """Return a header block with what must be said before it."""
        begins, self._begins = self._begins, b""
        return begins + block

    def largest_frame(self, size: int) -> None:
        """Take SETTINGS_MAX_FRAME_SIZE."""
        self._max_frame = size

    def stalled(self, before: float) -> list[Stream]:
        """Return streams of whose data nothing was taken since a moment."""
        return [stream for stream in self._blocked.values() if stream.since < before]
