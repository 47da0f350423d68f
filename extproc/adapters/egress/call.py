"""One call: a future of its answer, and what has come of it so far."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.adapters.egress.encodings import decoded
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers
from extproc.core.ports import Answered

if TYPE_CHECKING:
    from extproc.adapters.egress.link import Link
    from extproc.adapters.egress.timers import Entry
    from extproc.adapters.http2.replies import Head
    from extproc.adapters.http2.streams import Stream

_HEADERS = 32 << 10


class Call(asyncio.Future[Answered]):
    """Resolved by the link that it was made on; cancelling it cancels the call at the upstream.

    Attributes:
        block: the request's header block.
        sent: the request's body.
        repeatable: it may be made once more if the server never looked at it.
        link: where it was made; None before.
        stream: on which stream.
        timer: its timeout; None without one.
    """

    link: Link | None = None
    stream: Stream | None = None
    timer: Entry | None = None
    _head: Head | None = None

    def __init__(
        self, loop: asyncio.AbstractEventLoop, block: bytes, sent: bytes, max_bytes: int
    ) -> None:
        super().__init__(loop=loop)
        self.block = block
        self.sent = sent
        self.repeatable = True
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up, here and at the upstream."""
        if self.done():
            return False
        self._leave()
        return super().cancel(msg)

    def fail(self, reason: str, detail: str) -> None:
        """End without a usable answer."""
        if not self.done():
            self._leave()
            self.set_exception(UpstreamFault(reason, detail))

    def late(self) -> None:
        """Its time is over."""
        self.fail("timeout", "no answer in time")

    def _leave(self) -> None:
        self._settle()
        if self.link is not None and self.stream is not None:
            self.link.cancel(self.stream)

    def _settle(self) -> None:
        if self.timer is not None:
            self.timer[2] = None
            self.timer = None

    # ---- what the link says

    def began(self, head: Head) -> None:
        """Take the status and the fields."""
        size = sum([len(name) + len(value) for name, value in head.fields])
        if size > _HEADERS:
            self.fail("too_large", f"the answer's headers are larger than {_HEADERS} bytes")
        self._head = head

    def data(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(piece)
        if self._size > self._max_bytes:
            self._pieces.clear()
            self.fail("too_large", f"the answer is larger than {self._max_bytes} bytes")
        elif not self.done():
            self._pieces.append(piece)

    def ended(self, trailers: tuple[tuple[str, str], ...] = ()) -> None:
        """The answer is whole."""
        head = self._head
        if self.done() or head is None:
            return
        self._settle()
        fields = head.fields
        if trailers:
            # gRPC's status comes in trailers; of others' nothing is taken over (RFC 9110 6.5.1).
            fields += tuple([f for f in trailers if f[0] in {"grpc-status", "grpc-message"}])
        headers = Headers(fields)
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            coding = headers.get("content-encoding")
            if coding is not None:
                body = decoded(coding, body, self._max_bytes)
        except UpstreamFault as fault:
            self.set_exception(fault)
            return
        self.set_result(Answered(head.status, headers, body))
