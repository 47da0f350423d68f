"""One stream, and the table of those that are open (RFC 9113 section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque

_REMEMBERED = 1000


class Stream:
    """A stream that at least one side has not ended.

    Attributes:
        id: its identifier.
        remote_open: the peer may send more.
        local_open: we may send more.
        answered: we have sent something.
        credit: bytes that the peer may send now.
        owed: bytes that were taken since the peer was last given credit.
        window: bytes that we may send now; below zero after a change of settings.
        waiting: what waits for a window.
        trailers: a header block that ends the stream once nothing waits.
        closes: an empty frame ends the stream once nothing waits.
        since: when the last bit of what waits was taken by the peer.
        owner: whatever the layer above keeps with the stream.
    """

    # Most streams leave most of these as they are.
    remote_open = True
    local_open = True
    answered = False
    owed = 0
    waiting: deque[memoryview] | None = None
    trailers: bytes | None = None
    closes = False
    since = 0.0
    owner: Any = None

    def __init__(self, identifier: int, credit: int, window: int) -> None:
        self.id = identifier
        self.credit = credit
        self.window = window


class StreamTable:
    """Which streams are open, and what an identifier that isn't open once was.

    Attributes:
        open: the streams that at least one side has not ended.
        last: the highest identifier that the peer has used.
        accepted: the highest identifier that became a stream; what GOAWAY says.
    """

    __slots__ = ("_reset_here", "accepted", "last", "open")

    def __init__(self) -> None:
        self.open: dict[int, Stream] = {}
        self.last = 0
        self.accepted = 0
        self._reset_here: dict[int, None] = {}

    def is_idle(self, stream_id: int) -> bool:
        """Say whether an identifier was never used; a client's are odd (section 5.1.1)."""
        return stream_id > self.last or not stream_id & 1

    def reset_here(self, stream_id: int) -> None:
        """Remember that we reset a stream: frames for it may be under way."""
        self._reset_here[stream_id] = None
        if len(self._reset_here) > _REMEMBERED:
            del self._reset_here[next(iter(self._reset_here))]

    def was_reset_here(self, stream_id: int) -> bool:
        """Say whether we reset this stream lately."""
        return stream_id in self._reset_here
