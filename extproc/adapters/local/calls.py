"""One RPC on one stream: what every kind shares, and the kinds."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from extproc.adapters import service
from extproc.adapters.local import statuses
from extproc.adapters.local.framing import PREFIX, Deframer, framed_again, is_one
from extproc.adapters.local.statuses import CallFault, Status
from extproc.core.errors import PeerFault, where
from extproc.core.waiting import Waiting, start

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from extproc.adapters.http2.streams import Stream
    from extproc.adapters.local.health import Health
    from extproc.adapters.local.peer import Peer
    from extproc.adapters.service import Deciding

# Bytes that a waiting message takes beside its own: a frame holds thousands of empty ones.
_BESIDE = 64


class Call(ABC):
    """A call: messages in, messages out, one status.

    Attributes:
        over: nothing more is read or sent.
        since: when it began, or a message in pieces did; seconds, monotonic.
    """

    # Most calls leave most of these as they are.
    over = False
    _began = False
    _begun_to_hear = False
    _deframer: Deframer | None = None
    _held = 0
    _started = False
    _task: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, peer: Peer, stream: Stream) -> None:
        self._peer = peer
        self._stream = stream
        self.since = peer.now

    # ---- what a kind says

    @abstractmethod
    def message(self, data: bytes) -> bool:
        """Take one message.

        Returns:
            False where it has to wait behind another.

        Raises:
            CallFault: the call ends with an error status.
        """

    @abstractmethod
    def half_closed(self) -> None:
        """Take note that no more messages come.

        Raises:
            CallFault: the call ends with an error status.
        """

    def closed(self) -> None:  # noqa: B027 - most kinds hold nothing
        """Let go of what the call holds; called once, whatever the end."""

    def deserted(self) -> None:  # noqa: B027 - to most kinds it is nothing
        """Take note that the peer has reset the stream; answers to this read haven't left."""

    def end(self) -> None:
        """End behind the answers to the read that ended the stream."""
        self.gone()

    # ---- what comes

    def data(self, data: bytes, *, ended: bool) -> None:
        """Take bytes of the stream, or its end, or both."""
        if self.over:
            return
        try:
            if data:
                self._begun_to_hear = True
                # Envoy's messages come one in each DATA frame; everything else is put together.
                size, peer = len(data), self._peer
                if self._deframer is None and is_one(data, size, peer.limits.message):
                    if self.message(data[PREFIX:]):
                        peer.connection.took(self._stream, size)
                    else:
                        self._wait_with(size, size)
                else:
                    self._fed(data)
            if ended and not self.over:
                self.half_closed()
        except CallFault as fault:
            self.fail(fault.status, fault.text)
        except Exception as error:  # noqa: BLE001 - one call's defect is not the connection's
            self._defect(error)

    def _fed(self, data: bytes) -> None:
        """Take a piece of a message, or of several."""
        if self._deframer is None:
            self._deframer = Deframer(self._peer.limits.message)
        begins, waiting = not self._deframer.held, 0
        for message in self._deframer.feed(data):
            begins = True  # what is behind it is another one's first bytes
            if not self.message(message):
                waiting += PREFIX + len(message)
        if begins:
            self.since = self._peer.now
        self._wait_with(len(data), waiting)

    def _wait_with(self, came: int, waiting: int) -> None:
        """Account for bytes of which some wait.

        Queued messages are given credit for when they are taken, all other bytes now: a message
        may be larger than the window.
        """
        if not self.over:  # a message may have ended the call
            self._hold(waiting)
            self._peer.connection.took(self._stream, came - waiting)

    def _hold(self, waiting: int) -> None:
        """Account for bytes that came and weren't taken; the peer's bound is for all its calls."""
        partial = self._deframer.held if self._deframer is not None else 0
        queued = self._queued() + partial
        self._peer.held += queued - self._held
        self._held = queued
        if self._peer.held > self._peer.limits.held and (waiting or partial):
            raise CallFault(Status.RESOURCE_EXHAUSTED, "too many bytes wait on this connection")

    def _queued(self) -> int:
        return 0

    @property
    def is_awaited(self) -> bool:
        """Say whether a message is due: the first has not come, or one hasn't ended."""
        if not self._begun_to_hear:
            return True
        return self._deframer is not None and bool(self._deframer.held)

    def arm(self, seconds: float) -> None:
        """End the call after this long (grpc-timeout)."""
        self._timer = self._peer.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        self.fail(Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self._peer.flush()

    # ---- what goes

    def send(self, message: bytes) -> None:
        """Send one message."""
        if self.over:
            return
        peer = self._peer
        block = None if self._began else statuses.HEADERS
        self._began = True
        if not peer.connection.send(self._stream, block, framed_again(message), peer.now):
            self.gone()

    def succeed(self) -> None:
        """End the call well."""
        self._end(Status.OK, "")

    def fail(self, status: Status, text: str) -> None:
        """End the call with an error status."""
        self._end(status, text)

    def _end(self, status: Status, text: str) -> None:
        if self.over:
            return
        block = statuses.trailers if self._began else statuses.trailers_only
        self._peer.connection.end(self._stream, block(status, text))
        self.gone()

    def _defect(self, error: Exception) -> None:
        self._peer.log.error("call failed", error=type(error).__name__, where=where(error))
        self.fail(Status.INTERNAL, "the service failed")

    def gone(self) -> None:
        """The peer reset the stream, or the connection is lost, or the call has ended."""
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._started and self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._held:
            self._peer.held -= self._held
        self._stream.owner = None  # no cycle: what an exchange leaves is freed at once
        self.closed()

    # ---- work that waits

    def _run(self, work: Callable[[Waiting], Coroutine[Any, Any, None]], first: Waiting) -> None:
        self._started = False
        self._task = self._peer.loop.create_task(self._guarded(work, first))

    async def _guarded(
        self, work: Callable[[Waiting], Coroutine[Any, Any, None]], first: Waiting
    ) -> None:
        self._started = True
        try:
            if self.over and self._task is not None:
                # The peer was gone before this task could begin. What waits is told as any
                # other is, since it may have something to wait for at its end.
                self._task.cancel()
            await work(first)
        except CallFault as fault:
            self.fail(fault.status, fault.text)
        except Exception as error:  # noqa: BLE001 - as in `data`
            self._defect(error)
        finally:
            self._task = None
            self._peer.flush_soon()


class ProcessCall(Call):
    """`ExternalProcessor/Process`: one exchange."""

    _half_closed = False
    _deserted = False
    _told = -1
    _last = -1  # the writes with which the decision and the last answer leave
    _queue: deque[bytes] | None = None
    _waiting = 0

    def __init__(self, deciding: Deciding, peer: Peer, stream: Stream) -> None:
        super().__init__(peer, stream)
        self._exchange = deciding.exchange()

    def message(self, data: bytes) -> bool:
        """Answer at once, or wait, or queue behind a message whose hooks wait."""
        if self.over:
            return True
        if self._task is not None:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(data)
            self._waiting += PREFIX + len(data) + _BESIDE
            return False
        waiting = self._answered(data)
        request = self._exchange.request
        if request is not None and request.endings is not None:
            request.cut = self._cut
        if waiting is not None:
            self._run(self._wait, waiting)
        return True

    def _cut(self) -> None:
        """End the exchange in the middle: Envoy resets the client's connection."""
        self.fail(Status.ABORTED, "the exchange was ended")
        self._peer.flush_soon()

    def _answered(self, data: bytes) -> Waiting | None:
        """Answer a message; returns what has to be awaited for it."""
        try:
            answers = service.receive(self._exchange, data)
        except PeerFault as error:
            self._peer.log.warning("stream refused", error=str(error))
            raise CallFault(Status.FAILED_PRECONDITION, str(error)) from error
        if isinstance(answers, Waiting):
            return answers
        self._send_all(answers)
        return None

    def _send_all(self, messages: tuple[bytes, ...]) -> None:
        self._last = self._peer.writes
        if self._told < 0 and self._exchange.decision:
            self._told = self._last
        for message in messages:
            self.send(message)
        if not messages:
            self.succeed()  # a capture given up: the verdict was given, the rest passes unseen

    async def _wait(self, first: Waiting) -> None:
        exchange, timers = self._exchange, self._peer.timers
        waiting: Waiting | None = first
        while waiting is not None:
            self._send_all(await service.answered(exchange, waiting, self._asks, timers))
            self._peer.flush_soon()
            waiting = None
            while self._queue and not self.over and waiting is None:
                data = self._queue.popleft()
                size = PREFIX + len(data)
                self._waiting -= size + _BESIDE
                self._peer.connection.took(self._stream, size)
                self._hold(0)
                waiting = self._answered(data)
        if self._half_closed:
            self.succeed()

    def _asks(self, messages: tuple[bytes, ...]) -> None:
        """Ask for more time, in front of the answer."""
        if not self.over:
            self._send_all(messages)
            self._peer.flush_soon()

    def _queued(self) -> int:
        return self._waiting

    def half_closed(self) -> None:
        """End the call, once what came is answered."""
        if self._task is not None:
            self._half_closed = True
        elif self._told == self._peer.writes:
            self._peer.end_later(self)  # a reset may follow, and the decision hasn't left
        else:
            self.succeed()

    def deserted(self) -> None:
        """Take back what Envoy can't have heard, as where it waited for too long."""
        self._deserted = True
        if self._last == self._peer.writes:
            self._exchange.unheard(told=0 <= self._told < self._last)

    def end(self) -> None:
        """End well where the peer only has nothing more to say."""
        if self._deserted:
            self.gone()
        else:
            self.succeed()

    def closed(self) -> None:
        """Run `on_finish` beside the end of the stream."""
        rest = service.finish(self._exchange)
        if rest is not None:
            self._peer.finish_later(rest)


class UnaryCall(Call):
    """One message in, one out."""

    def __init__(
        self, answer: Callable[[bytes], Coroutine[Any, Any, bytes]], peer: Peer, stream: Stream
    ) -> None:
        super().__init__(peer, stream)
        self._answer = answer
        self._request: bytes | None = None

    def message(self, data: bytes) -> bool:
        """Keep the request until its end."""
        if self._request is not None:
            raise CallFault(Status.UNIMPLEMENTED, "one message, and more than one came")
        self._request = data
        return True

    def half_closed(self) -> None:
        """Answer the request."""
        if self._request is None:
            raise CallFault(Status.UNIMPLEMENTED, "one message, and none came")
        try:
            answer = start(self._answer(self._request))
        except PeerFault as error:
            raise CallFault(Status.INVALID_ARGUMENT, str(error)) from error
        if isinstance(answer, Waiting):
            self._run(self._wait, answer)
        else:
            self.send(answer)
            self.succeed()

    async def _wait(self, waiting: Waiting) -> None:
        try:
            answer = await waiting
        except PeerFault as error:
            raise CallFault(Status.INVALID_ARGUMENT, str(error)) from error
        self.send(answer)
        self.succeed()


class WatchCall(Call):
    """`Health/Watch`: one message in, the state now and at each change."""

    def __init__(self, health: Health, peer: Peer, stream: Stream) -> None:
        super().__init__(peer, stream)
        self._health = health

    def message(self, data: bytes) -> bool:
        """Begin to tell."""
        self._health.watch(data, self._tell)
        return True

    def _tell(self, state: bytes) -> None:
        self.send(state)
        self._peer.flush_soon()

    def half_closed(self) -> None:
        """Go on: the client only listens."""

    def closed(self) -> None:
        """Stop telling."""
        self._health.forget(self._tell)


class AccessLogCall(Call):
    """`AccessLogService/StreamAccessLogs`: messages in, one out at the end."""

    def __init__(self, deciding: Deciding, peer: Peer, stream: Stream) -> None:
        super().__init__(peer, stream)
        self._deciding = deciding

    def message(self, data: bytes) -> bool:
        """Count what it holds."""
        try:
            service.access_log(self._deciding, data)
        except PeerFault as error:
            raise CallFault(Status.INVALID_ARGUMENT, str(error)) from error
        return True

    def half_closed(self) -> None:
        """Thank and end."""
        self.send(service.ACCESS_LOG_DONE)
        self.succeed()
