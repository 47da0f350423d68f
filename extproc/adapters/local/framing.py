"""Length-prefixed messages (gRPC over HTTP/2) out of bytes that were cut anywhere."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from extproc.adapters.local.statuses import CallFault, Status

PREFIX = 5
_PREFIX = Struct(">BL")
_read = _PREFIX.unpack_from


def framed(message: bytes) -> bytes:
    """Write one message, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


_framed_again = lru_cache(maxsize=1024)(framed)
_SHORT = 1024


def framed_again(message: bytes) -> bytes:
    """Write one message; a short one that was written before is remembered."""
    return _framed_again(message) if len(message) <= _SHORT else framed(message)


def is_one(data: bytes, size: int, most: int) -> bool:
    """Say whether so many bytes are exactly one message, not compressed and not too large."""
    return PREFIX <= size <= most + PREFIX and _read(data) == (0, size - PREFIX)


class Deframer:
    """Collects the messages of one direction of one call.

    Attributes:
        held: bytes of a message that hasn't ended.
    """

    __slots__ = ("_most", "_parts", "_size", "held")

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size: int | None = None
        self.held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes.

        Returns:
            The messages that ended with them.

        Raises:
            CallFault: a compressed message, or one that is too large.
        """
        self._parts.append(data)
        self.held += len(data)
        if self._size is not None and self.held < PREFIX + self._size:
            return []
        return self._cut(b"".join(self._parts))

    def _cut(self, data: bytes) -> list[bytes]:
        messages = []
        position, self._size = 0, None
        while len(data) - position >= PREFIX:
            size = self._checked_size(data[position : position + PREFIX])
            if len(data) - position < PREFIX + size:
                self._size = size
                break
            messages.append(data[position + PREFIX : position + PREFIX + size])
            position += PREFIX + size
        rest = data[position:]
        self._parts = [rest] if rest else []
        self.held = len(rest)
        return messages

    def _checked_size(self, prefix: bytes) -> int:
        if prefix[0] == 1:
            raise CallFault(Status.INTERNAL, "a compressed message without grpc-encoding")
        if prefix[0]:
            raise CallFault(Status.INTERNAL, "the message's first byte is neither 0 nor 1")
        size = int.from_bytes(prefix[1:], "big")
        if size > self._most:
            raise CallFault(
                Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes, at most {self._most}"
            )
        return size
