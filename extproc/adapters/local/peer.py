"""One connection: all frames of a read are handled, then all answers leave in one write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.errors import ErrorCode
from extproc.adapters.http2.events import ConnectionEnded, DataCame, RequestCame, StreamEnded
from extproc.adapters.local import statuses
from extproc.adapters.local.heads import Head, interpret
from extproc.adapters.local.statuses import Status
from extproc.adapters.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from extproc.adapters.http2.connection import Event
    from extproc.adapters.http2.limits import Limits
    from extproc.adapters.http2.streams import Stream
    from extproc.adapters.local.calls import Call
    from extproc.adapters.local.polling import BusyPoll
    from extproc.core.ports import Log
    from extproc.core.waiting import Waiting

_BULK = 1 << 20
_LONG = 0.02  # seconds that one read may take before others have a turn
_NOT_FOUND = statuses.trailers_only(Status.UNIMPLEMENTED, "unknown method")


class Peer(asyncio.Protocol):
    """Drives one `http2.Connection` with what asyncio brings.

    Attributes:
        now: when the last bytes came; seconds, monotonic.
        held: bytes of messages that came and weren't taken, all calls together.
        writes: how many there were.
    """

    def __init__(
        self,
        methods: dict[str, Callable[[Peer, Stream], Call]],
        limits: Limits,
        log: Log,
        clock: Callable[[], float],
        finish_later: Callable[[Waiting], None],
        made: Callable[[Peer], None],
        lost: Callable[[Peer], None],
        busy: BusyPoll | None = None,
    ) -> None:
        self._methods = methods
        self._clock = clock
        self._made = made
        self._lost = lost
        self._busy = busy
        self._flushing = self._resting = False
        self._blocked_since: float | None = None
        self._left: tuple[Event, ...] = ()
        self._timed: list[tuple[Call, float]] = []
        self._endings: list[Call] = []
        self.limits = limits
        self.log = log
        self.finish_later = finish_later
        self.loop = asyncio.get_running_loop()
        self.timers = Timers(self.loop)
        self.now = clock()
        self.held = self.writes = 0
        self.connection: Connection[Head] = Connection(interpret, limits, self.now)

    # ---- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: our SETTINGS leave at once (RFC 9113 section 3.4)."""
        self._transport = cast("asyncio.Transport", transport)
        self._made(self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Handle every frame, then send every answer."""
        self.now = self._clock()
        events = self.connection.receive(data, self.now)
        if self._left:
            self._left = (*self._left, *events)  # behind those that wait
        else:
            self._handle(events)
        self.flush()
        if self._busy is not None:
            self._busy.came(self.now, len(self.connection.streams))
        if self._endings:
            self._end_all()
        if self._clock() - self.now > _LONG:
            self._rest_a_turn()

    def _rest_a_turn(self) -> None:
        """Let others have the loop: what reads a socket goes on while there is something in it."""
        if self._blocked_since is None and not self._resting and not self._transport.is_closing():
            self._resting = True
            self._transport.pause_reading()
            self.loop.call_later(0, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_on()

    def _read_on(self) -> None:
        """Read again, unless something else still keeps from it."""
        kept = self._resting or self._blocked_since is not None
        if not kept and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end_all(self) -> None:
        """End the calls whose streams are over: behind the answers, which somebody waits for."""
        endings, self._endings = self._endings, []
        for call in endings:
            call.end()
        if self.connection.out:
            self.flush()

    def _handle(self, events: Sequence[Event]) -> None:
        out, rest = self.connection.out, iter(events)
        for event in rest:
            if type(event) is DataCame:
                call = event.stream.owner
                if call is not None:
                    call.data(event.data, ended=event.ended)
            elif type(event) is RequestCame:
                self._begin(event)
            elif type(event) is StreamEnded:
                call = event.stream.owner
                if call is not None:
                    call.deserted()
                    self._endings.append(call)
                continue
            else:
                self._ended(event)
            if out.bulk > _BULK:
                self.flush()
                if self._blocked_since is not None:
                    # A few bytes may ask for large answers: the rest waits with the peer.
                    self._left = (*rest, *self._left)
                    break
        self._arm()

    def _arm(self) -> None:
        """Give a timer to the calls that have a deadline and weren't over at once."""
        if self._timed:
            timed, self._timed = self._timed, []
            for call, timeout in timed:
                if not call.over:
                    call.arm(timeout)

    def _begin(self, event: RequestCame) -> None:
        head, stream = event.head, event.stream
        begin = self._methods.get(head.method)
        if head.refusal is not None or begin is None:
            self.connection.end(stream, head.refusal or _NOT_FOUND)
            return
        call = stream.owner = begin(self, stream)
        if head.timeout is not None:
            self._timed.append((call, head.timeout))
        if event.ended:
            call.data(b"", ended=True)

    def _ended(self, event: Event) -> None:
        if isinstance(event, StreamEnded):
            if event.stream.owner is not None:
                event.stream.owner.deserted()
                self._endings.append(event.stream.owner)
        elif isinstance(event, ConnectionEnded):
            self.log.warning("connection refused", reason=event.violation.text)
            self._abandon()

    def pause_writing(self) -> None:
        """Read no more until the peer has read what it has been sent."""
        self._blocked_since = self._clock()
        if not self._resting:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading."""
        self._blocked_since = None
        left, self._left = self._left, ()
        self._handle(left)
        self.flush()
        self._end_all()
        self._read_on()

    def connection_lost(self, _error: Exception | None) -> None:
        """Abandon every call."""
        left, self._left = self._left, ()
        for event in left:
            if type(event) is StreamEnded:
                self._ended(event)
        self._end_all()
        self._abandon()
        self.timers.close()
        self._lost(self)

    def _abandon(self) -> None:
        for stream in list(self.connection.streams.values()):
            if stream.owner is not None:
                stream.owner.gone()

    # ---- what calls and the server say

    def flush(self) -> None:
        """Send what there is; close if nothing more will come."""
        self._flushing = False
        out = self.connection.out
        if out and not self._transport.is_closing():
            self.writes += 1
            self._transport.write(out.take())
        if self.connection.drained:
            self._transport.close()

    def end_later(self, call: Call) -> None:
        """End a call behind the answers to this read."""
        self._endings.append(call)

    def flush_soon(self) -> None:
        """Send after what is running now, together with what others send."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self.flush)

    def tick(self) -> None:
        """Look at the clock, about once a second."""
        self.now = now = self._clock()
        if self._blocked_since is not None and now - self._blocked_since > self.limits.send_within:
            self.log.warning("connection dropped", reason="the peer doesn't read")
            self._transport.abort()
            return
        for event in self.connection.tick(now):
            self._ended(event)
        self._end_all()
        late = now - self.limits.message_within
        for stream in list(self.connection.streams.values()):
            call = stream.owner
            if call is not None and call.is_awaited and call.since < late:
                call.fail(Status.DEADLINE_EXCEEDED, "a message that doesn't end")
        self.flush()

    def announce_end(self) -> None:
        """Begin a graceful end."""
        self.connection.announce_end()
        self.flush()

    def stop_accepting(self) -> None:
        """Go on with it: no new call from here."""
        self.connection.stop_accepting()
        self.flush()

    def refuse(self) -> None:
        """Turn a connection away before it is made: there are too many."""
        self.connection.refuse(ErrorCode.ENHANCE_YOUR_CALM, "too many connections")

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
