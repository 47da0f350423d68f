"""How far a peer may go: every bound with its name."""

from __future__ import annotations

from dataclasses import dataclass

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection; sizes in bytes, times in seconds.

    Attributes:
        streams: open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
        stream_window: what a peer may send on a stream before it is taken.
        connection_window: the same for all streams together.
        header_block: a compressed header block, all its frames together.
        header_list: the fields of one block (SETTINGS_MAX_HEADER_LIST_SIZE); beyond that its
            stream ends, beyond four times that the connection.
        header_fields: how many of them; beyond that its stream ends.
        continuations: CONTINUATION frames of one block.
        unanswered: streams that may end before they were answered, by the peer's reset or its
            mistake, at once; a tenth of it comes back each second. A reset after the answer
            costs nothing: Envoy ends every exchange with one.
        idle_frames: frames that carry no work (SETTINGS, PING, WINDOW_UPDATE, empty DATA, and
            so on), at once; a tenth comes back each second, and each stream, each message of ours
            and each full DATA frame of it earns some.
        unread: answers that wait for the peer's windows.
        message: one gRPC message.
        held: messages that came and were not taken yet, whole or in part.
        handshake: until preface and SETTINGS have come.
        frame_within: until a frame or header block that began has ended.
        message_within: until a call's first message has come, and one that began has ended.
        send_within: until something more of a waiting answer is taken.
        idle: without any stream.
    """

    streams: int = 1000
    stream_window: int = 1 * _MIB
    connection_window: int = 16 * _MIB
    header_block: int = 64 * _KIB
    header_list: int = 32 * _KIB
    header_fields: int = 128
    continuations: int = 8
    unanswered: int = 20_000
    idle_frames: int = 2_000
    unread: int = 256 * _MIB
    message: int = 64 * _MIB
    held: int = 256 * _MIB
    handshake: float = 10.0
    frame_within: float = 10.0
    message_within: float = 30.0
    send_within: float = 30.0
    idle: float = 600.0


class Budget:
    """A number of units at once, of which a tenth comes back each second.

    Attributes:
        left: how many there are.
    """

    __slots__ = ("_most", "_since", "left")

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self.left = float(most)
        self._since: float | None = None

    def earn(self, units: float) -> None:
        """Put units back for work done; what is too many is cut off at the next `spend`."""
        self.left += units

    def spend(self, now: float) -> bool:
        """Take one unit; False says that none is left."""
        if self._since is not None and now > self._since:
            self.earn((now - self._since) * self._most / 10)
        self._since = now
        self.left = min(self._most, self.left)
        if self.left < 1:
            return False
        self.left -= 1
        return True
