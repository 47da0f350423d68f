"""One call: what has come of it so far, and who is told of its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.adapters.egress.came import Came
from extproc.adapters.egress.encodings import decoded
from extproc.adapters.egress.waited import Waited
from extproc.core.answered import Answered
from extproc.core.errors import UpstreamFault

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from extproc.adapters.egress.link import Link
    from extproc.adapters.http2.client import Asked
    from extproc.adapters.http2.replies import Head
    from extproc.adapters.timers import Entry
    from extproc.core.room import Room

_HEADERS = 32 << 10
# Envoy says in it, with its response flags, that an answer is its own; see `local_replies.marked`.
_LOCAL_REPLY = "x-extproc-local-reply"
_FLAGS = {
    "connect": frozenset({"UF", "UH", "UO", "NR", "NC", "DF"}),
    "timeout": frozenset({"UT", "DT", "SI", "UMSDR", "DI"}),
}
_OF_GRPC = frozenset({"grpc-status", "grpc-message"})

Fields = tuple[tuple[str, str], ...]


class Call:
    """Resolved by the link that it was made on; cancelling it cancels the call at the upstream.

    It does what a future does, and costs a fraction: most are told promptly and never awaited.

    Attributes:
        block: the request's header block.
        sent: the request's body.
        most: the largest body of an answer.
        room: what it reads is taken of this; None for no other bound.
        repeatable: it may be made once more if the server never looked at it.
        link: where it was made; None before.
        stream: on which stream.
        timer: its timeout; None without one.
    """

    __slots__ = (
        "_answer",
        "_cancelled",
        "_fault",
        "_loop",
        "_prompt",
        "_through",
        "_waited",
        "block",
        "link",
        "most",
        "repeatable",
        "room",
        "sent",
        "stream",
        "timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        block: bytes,
        sent: bytes,
        most: int,
        room: Room | None = None,
    ) -> None:
        self._loop = loop
        self._answer: Answered | None = None
        self._fault: BaseException | None = None
        self._cancelled = False
        self._waited: Waited | None = None
        self.block = block
        self.sent = sent
        self.most = most
        self.room = room
        self.repeatable = True
        self.link: Link | None = None
        self.stream: Asked | None = None
        self.timer: Entry | None = None
        self._prompt: Callable[[Call], None] | None = None
        self._through: Callable[[Answered], Answered] | None = None

    def __await__(self) -> Generator[Any, None, Answered]:
        """Wait for the answer; whoever waits and is cancelled gives the call up."""
        waited = self._waited
        if waited is None:
            waited = Waited(self, self._loop)
            if self.done():
                waited.tell(self._answer, self._fault)
            else:
                self._waited = waited
        return waited.__await__()

    def done(self) -> bool:
        """Say whether there is an answer, or there will be none."""
        return self._answer is not None or self._fault is not None or self._cancelled

    def result(self) -> Answered:
        """Return the answer.

        Raises:
            UpstreamFault: there is none that can be used.
            asyncio.CancelledError: the call was given up.
            asyncio.InvalidStateError: it isn't done.
        """
        fault = self.exception()
        if fault is not None:
            raise fault
        if self._answer is None:
            raise asyncio.InvalidStateError
        return self._answer

    def exception(self) -> BaseException | None:
        """Return why there is no answer that can be used; None where there is one.

        Raises:
            asyncio.CancelledError: the call was given up.
            asyncio.InvalidStateError: it isn't done.
        """
        if self._cancelled:
            raise asyncio.CancelledError
        if not self.done():
            raise asyncio.InvalidStateError
        return self._fault

    def through(self, change: Callable[[Answered], Answered]) -> None:
        """Let an answer that is still to come pass through a function before it is told."""
        self._through = change

    def promptly(self, callback: Callable[[Call], None] | None) -> None:
        """Call back in the turn of the loop in which the answer comes; None for no more."""
        self._prompt = callback
        if callback is not None and self.done():
            callback(self)

    def cancel(self) -> bool:
        """Give the call up, here and at the upstream; False if it is done."""
        if self.done():
            return False
        self._cancelled = True
        self._prompt = None  # who gives it up need not be told
        self._leave()
        self._told()
        return True

    def fail(self, reason: str, detail: str) -> None:
        """End without a usable answer."""
        if not self.done():
            self._leave()
            self._fault = UpstreamFault(reason, detail)
            self._told()

    def late(self) -> None:
        """Its time is over."""
        self.fail("timeout", "no answer in time")

    def _leave(self) -> None:
        self._settle()
        if self.link is not None and self.stream is not None:
            self.link.cancel(self.stream)
            self.dropped()

    def _settle(self) -> None:
        if self.timer is not None:
            self.timer[0] = None
            self.timer = None

    # ---- what the link says

    def too_large(self, *, together: bool) -> None:
        """The body is larger than what is wanted, or than what all may have together."""
        self.dropped()
        if together and self.room is not None:
            self.fail("too_large", f"the answers are larger than {self.room.most} bytes together")
        else:
            self.fail("too_large", f"the answer is larger than {self.most} bytes")

    def dropped(self) -> None:
        """Its stream is over without an answer; what came is let go."""
        if self.stream is not None and self.room is not None:
            self.room.left += self.stream.size
        self.stream = None

    def answered(self, head: Head, pieces: list[bytes], trailers: Fields) -> None:
        """The answer is whole."""
        if self.done():
            return
        self._settle()
        try:
            answer = _answer(head, pieces, trailers, self.most)
            self._answer = answer if self._through is None else self._through(answer)
            self.stream = None
        except Exception as fault:  # noqa: BLE001 - whoever waits is told
            self.dropped()
            self._fault = fault
        self._told()

    def _told(self) -> None:
        # No cycle: what a call leaves is freed at once.
        prompt, waited, self._prompt, self._waited = self._prompt, self._waited, None, None
        if waited is not None:
            waited.tell(self._answer, self._fault)
        if prompt is not None:
            try:
                prompt(self)
            except Exception as error:  # noqa: BLE001 - the link is everybody's
                self._loop.call_exception_handler(
                    {"message": "what waited for an answer failed", "exception": error}
                )


def _answer(head: Head, pieces: list[bytes], trailers: Fields, most: int) -> Answered:
    if head.size > _HEADERS:
        raise UpstreamFault("too_large", f"the answer's headers are larger than {_HEADERS} bytes")
    if _LOCAL_REPLY in head.names:
        raise _fault(next(value for name, value in head.fields if name == _LOCAL_REPLY))
    if trailers:
        # gRPC's status comes in trailers; of others' nothing is taken over (RFC 9110 6.5.1).
        head = head.followed_by([f for f in trailers if f[0] in _OF_GRPC])
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if head.coding:
        body = decoded(head.coding, body, most)
    return Answered(head.status, Came(head), body)


def _fault(flags: str) -> UpstreamFault:
    """Return what Envoy's own answer to a call means, by its response flags."""
    for reason, meant in _FLAGS.items():
        if not meant.isdisjoint(flags.split(",")):
            return UpstreamFault(reason, f"Envoy has no answer ({flags})")
    return UpstreamFault("protocol", f"Envoy has no answer ({flags})")
