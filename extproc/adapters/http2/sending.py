"""Our side of a connection: responses, resets, and the ways in which it ends."""

from __future__ import annotations

from extproc.adapters.http2 import frames, settings
from extproc.adapters.http2.errors import ConnectionFault, ErrorCode, StreamFault, Violation
from extproc.adapters.http2.events import ConnectionEnded
from extproc.adapters.http2.frames import Kind
from extproc.adapters.http2.limits import Budget, Limits
from extproc.adapters.http2.outbox import Outbox
from extproc.adapters.http2.streams import Stream, StreamTable

LAST_CALL = b"lastcall"  # a PING of ours; its acknowledgement ends the graceful part
# gRPC's C core, which other clients and Envoy's `google_grpc` stand on, widens two windows for each
# message, however short it is, and pings now and then.
_EARNED = 4
_NEWEST = frames.MAX_WINDOW  # as a stream identifier in GOAWAY: all of them


class Sending:
    """What a server does on a connection; what the peer does is `Connection`'s.

    Attributes:
        out: the bytes to send.
        streams: those that at least one side has not ended, by identifier.
        over: the peer broke the rules; nothing more is read or sent.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._half = limits.stream_window >> 1
        self._half_window = limits.connection_window >> 1
        self._credit = limits.connection_window
        self._owed = 0
        self._idle_frames = Budget(limits.idle_frames)
        self._unanswered = Budget(limits.unanswered)
        self.out = Outbox(limits, self._idle_frames)
        self._table = StreamTable()
        self.streams = self._table.open
        self._accepting = True
        self._last_call: float | None = None
        self._now = self._busy = now
        self.over = False
        self.out.control(self._greeting())

    def _greeting(self) -> bytes:
        """Return what is sent first."""
        return settings.announced(self._limits)

    # ---- responses

    def took(self, stream: Stream, size: int) -> None:
        """Say that bytes of a stream were taken, so that the peer may send as many more."""
        stream.owed += size
        if stream.owed > self._half and stream.remote_open:
            self.out.control(frames.window_update(stream.id, stream.owed))
            stream.credit += stream.owed
            stream.owed = 0

    def _account(self, size: int) -> None:
        """Take bytes off the connection's window, and widen it in time."""
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFault(Violation.WINDOW_EXCEEDED)
        self._owed += size
        if self._owed > self._half_window:
            self.out.control(frames.window_update(0, self._owed))
            self._credit += self._owed
            self._owed = 0

    def send(self, stream: Stream, block: bytes | None, data: bytes, now: float) -> bool:
        """Send data, behind the header block that begins the response.

        Args:
            stream: on which.
            block: of the first data alone; None for later ones.
            data: bytes.
            now: the monotonic time, seconds.

        Returns:
            False where the peer lets so much wait that the stream was reset.
        """
        if not stream.local_open or self.over:
            return True
        stream.answered = True
        self._idle_frames.left += _EARNED  # as `earn`, for every message
        try:
            if block is None:
                self.out.data(stream, data, now)
            else:
                self.out.response(stream, block, data, now)
        except StreamFault as fault:
            self.reset(stream, fault.violation.code)
            return False
        return True

    def end(self, stream: Stream, trailers: bytes) -> None:
        """End a response, behind what waits; the peer is told to send no more."""
        if not stream.local_open or self.over:
            return
        stream.answered = True
        stream.local_open = False
        self.out.trailers(stream, trailers)
        if stream.trailers is None:
            self._local_ended(stream)

    def _local_ended(self, stream: Stream) -> None:
        if stream.remote_open:
            # RFC 9113 section 8.1: a complete response, and no interest in the rest.
            stream.remote_open = False
            self.out.control(frames.reset(stream.id, ErrorCode.NO_ERROR))
            self._table.reset_here(stream.id)
        self._gone(stream)

    def _collect(self) -> None:
        """End the streams whose last data has just left."""
        for stream in [s for s in self.streams.values() if not s.local_open]:
            if not stream.waiting and stream.trailers is None:
                self._local_ended(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once."""
        if stream.id in self.streams:
            self.out.control(frames.reset(stream.id, code))
            self._table.reset_here(stream.id)
            stream.remote_open = stream.local_open = False
            self._gone(stream)

    def _gone(self, stream: Stream) -> None:
        if self.streams.pop(stream.id, None) is not None:
            if stream.waiting:
                self.out.forget(stream)
            self._busy = self._now

    # ---- budgets

    def _spent(self) -> None:
        """Account for a frame that carries no work."""
        if not self._idle_frames.spend(self._now):
            raise ConnectionFault(Violation.IDLE_FRAMES)

    def _ended_unanswered(self) -> None:
        """Account for a stream that cost us work and brought nobody an answer.

        The connection closes softly: what runs is answered, and the peer connects again.
        """
        if not self._unanswered.spend(self._now) and self._accepting:
            self._close_softly(Violation.RAPID_RESET)

    def _close_softly(self, violation: Violation) -> None:
        self._accepting = False
        self.out.control(frames.go_away(self._table.accepted, violation.code, violation.text))

    # ---- ends

    def announce_end(self) -> None:
        """Begin a graceful end: streams under way are still taken (RFC 9113 section 6.8)."""
        if self._accepting and self._last_call is None and not self.over:
            self._last_call = self._now
            self.out.control(frames.go_away(_NEWEST, ErrorCode.NO_ERROR))
            self.out.control(frames.frame(Kind.PING, 0, 0, LAST_CALL))

    def stop_accepting(self) -> None:
        """Go on with a graceful end: from here no stream is begun."""
        if self._accepting and not self.over:
            self._accepting = False
            self.out.control(frames.go_away(self._table.accepted, ErrorCode.NO_ERROR))

    @property
    def drained(self) -> bool:
        """Say whether nothing more will happen here."""
        return self.over or not (self._accepting or self.streams)

    def _end(self, violation: Violation) -> ConnectionEnded:
        self.over = True
        self.out.control(frames.go_away(self._table.accepted, violation.code, violation.text))
        return ConnectionEnded(violation)

    def refuse(self, code: ErrorCode, text: str) -> None:
        """Turn the connection away before it begins."""
        self.over = True
        self.out.control(frames.go_away(0, code, text))
