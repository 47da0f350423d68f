"""One connection to the egress listener: frames of a read at once, requests in one write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from extproc.adapters.http2.client import ClientConnection
from extproc.adapters.http2.errors import ErrorCode
from extproc.adapters.http2.events import (
    AnswerCame,
    AnswerTooLarge,
    ConnectionEnded,
    StreamEnded,
)
from extproc.adapters.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.adapters.egress.call import Call
    from extproc.adapters.http2.connection import Event
    from extproc.adapters.http2.limits import Limits
    from extproc.adapters.http2.streams import Stream


class Link(asyncio.Protocol):
    """Drives one `http2.ClientConnection`; calls may be made before the connection is there."""

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        again: Callable[[Call], None],
        lost: Callable[[Link], None],
    ) -> None:
        self._loop = loop
        self._again = again
        self._lost = lost
        self._flushing = False
        self._transport: asyncio.Transport | None = None
        self._blocked = False
        self.connection = ClientConnection(limits, loop.time())

    @property
    def takes_more(self) -> bool:
        """Say whether a call may be made here."""
        transport = self._transport
        return self.connection.takes_more and (transport is None or not transport.is_closing())

    @property
    def under_way(self) -> int:
        """Return how many calls are under way."""
        return len(self.connection.streams)

    # ---- what calls say

    def make(self, call: Call) -> None:
        """Make a call; what is made in one turn of the loop leaves together."""
        now = self._loop.time() if call.sent else 0.0
        stream = self.connection.request(call.block, call.sent, call.most, now, call.room)
        stream.owner = call
        call.link, call.stream = self, stream
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def cancel(self, stream: Stream) -> None:
        """Tell the server that nobody waits."""
        stream.owner = None
        if stream.id in self.connection.streams:
            self.connection.cancel(stream)
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None:
            return
        out = self.connection.out
        if out and not transport.is_closing():
            transport.write(out.take())
        if self.connection.drained:
            transport.close()

    # ---- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has been waiting, behind our preface."""
        self._transport = cast("asyncio.Transport", transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Handle every frame; whoever waits for the answers goes on afterwards."""
        connection = self.connection
        for event in connection.receive(data, self._loop.time()):
            self._handle(event)
        if connection.closing:
            for event in connection.refused():
                self._handle(event)
        if connection.out and not self._flushing:
            self._flush()
        elif connection.drained and self._transport is not None:
            self._transport.close()

    def _handle(self, event: Event) -> None:
        if type(event) is AnswerCame:
            stream: Any = event.stream  # an `Asked`, as nothing else is opened here
            call: Call | None = stream.owner
            if call is not None and stream.head is not None:
                call.answered(stream.head, stream.pieces, stream.trailers_came)
        elif type(event) is AnswerTooLarge:
            call = event.stream.owner
            if call is not None:
                call.too_large(together=event.together)
        elif isinstance(event, StreamEnded):
            self._broken(event.stream, event.code)
        elif isinstance(event, ConnectionEnded):
            self._abandon("protocol", "the egress listener broke HTTP/2")

    def _broken(self, stream: Stream, code: int) -> None:
        call: Call | None = stream.owner
        stream.owner = None
        if call is None or call.done():
            return
        call.dropped()
        if call.timer is not None and Timers.is_near(call.timer, self._loop.time()):
            call.late()  # Envoy keeps the same time, and ends an answer that has begun like this
        elif code != ErrorCode.REFUSED_STREAM:
            call.fail("protocol", "the answer broke off")
        elif call.repeatable:
            call.repeatable = False
            self._again(call)
        else:
            call.fail("connect", "the call was refused before it was looked at")

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail every call that is under way."""
        self._lost(self)
        self._abandon("connect", "the connection to the egress listener was lost")

    def not_connected(self) -> None:
        """There is no connection, and there will be none."""
        self.connection.over = True
        self._abandon("connect", "the egress listener can't be reached")

    def _abandon(self, reason: str, detail: str) -> None:
        streams = list(self.connection.streams.values())
        self.connection.over = True
        for stream in streams:
            call: Call | None = stream.owner
            stream.owner = None
            if call is not None:
                call.dropped()
                call.fail(reason, detail)

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
        self._abandon("connect", "this process is stopping")
