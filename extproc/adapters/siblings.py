"""What a worker tells the other workers of its gateway, by way of the supervisor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from extproc.core.replicas import SharedMark

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOON = 0.02  # seconds within which marks go in one line
_MOST = 10_000
_LONGEST = 1 << 20  # characters of one line's names
_UNREAD = 1 << 20  # bytes that the supervisor hasn't read; more wait here
_ALL = SharedMark("all", "", soft=False)


class Siblings:
    """Tells others what was made void here: soon, all of it, in its order.

    What is too much to be told is told as all.
    """

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unsaid: list[SharedMark] = []
        self._length = 0
        self._saying = False

    def connect(self, writer: asyncio.StreamWriter) -> None:
        """Take the way to the supervisor; what was to be told before is told now."""
        self._writer, self._loop = writer, asyncio.get_running_loop()
        self._say()

    def tell(self, marks: Sequence[SharedMark]) -> None:
        """Tell others, soon; from any thread."""
        self._unsaid += marks
        self._length += sum([len(mark.name) for mark in marks])
        if len(self._unsaid) > _MOST or self._length > _LONGEST:
            self._unsaid, self._length = [_ALL], 0
        if self._loop is not None and not self._saying:
            self._saying = True
            self._loop.call_soon_threadsafe(self._loop.call_later, _SOON, self._say)

    def _say(self) -> None:
        if self._writer is None or self._loop is None:
            return
        if self._writer.transport.get_write_buffer_size() > _UNREAD:
            self._loop.call_later(_SOON, self._say)
            return
        self._saying = False
        unsaid, self._unsaid, self._length = self._unsaid, [], 0
        if unsaid:
            self._writer.write(_line(unsaid))


def _line(marks: Sequence[SharedMark]) -> bytes:
    said = [[mark.kind, mark.name, mark.soft] for mark in marks]
    try:
        return orjson.dumps({"tell": "marks", "marks": said}) + b"\n"
    except TypeError:  # a name that is no Unicode
        return _line([_ALL])
