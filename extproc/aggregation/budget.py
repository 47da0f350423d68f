"""Bounds: of what one exchange may ask for, and of what one upstream is asked at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.aggregation.failures import Unusable
from extproc.core.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far one exchange may go.

    Attributes:
        calls: how many it may make.
        bytes: of all its parts together, and of all that its calls send.
        at_once: how many calls may be under way.
        depth: how many aggregations may stand behind one another.
    """

    calls: int = 100
    bytes: int = 16 << 20
    at_once: int = 32
    depth: int = 4


class Budget:
    """What is left of an exchange's bounds.

    Attributes:
        room: what all its calls together may read.
    """

    __slots__ = ("_all", "_bytes", "_calls", "_needed", "_sent", "room")

    def __init__(self, bounds: Bounds) -> None:
        self._calls = bounds.calls
        self._all = self._bytes = self._sent = bounds.bytes
        self._needed: set[str] = set()
        self.room = Room(bounds.bytes)

    @property
    def taken(self) -> int:
        """How many bytes the answers had."""
        return self._all - self._bytes

    def need(self, place: str) -> None:
        """Take note of a call that will be made; equal ones are one.

        Args:
            place: where it goes.

        Raises:
            Unusable: with those that were made there will be too many.
        """
        self._needed.add(place)
        if len(self._needed) > self._calls:
            raise Unusable("too_many_calls", of_all=True)

    def call(self, place: str, size: int) -> None:
        """Take note of one more call.

        Args:
            place: where it goes; empty where no other can be equal.
            size: how much it sends, which is kept until it can leave.

        Raises:
            Unusable: there are too many, or they send too much.
        """
        self._needed.discard(place)
        if len(self._needed) >= self._calls:
            raise Unusable("too_many_calls", of_all=True)
        self._calls -= 1
        self._sent -= size
        if self._sent < 0:
            raise Unusable("too_large")

    def took(self, size: int) -> None:
        """Take note of an answer's size.

        Raises:
            Unusable: all together are too large.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise Unusable("too_large")

    def most(self, own: int | None) -> int:
        """Return how large the next answer may be."""
        left = max(self._bytes, 1)
        return left if own is None else min(own, left)


class Gate:
    """Lets so many calls of one worker to an upstream be under way; the others wait in turn."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, later: Callable[[], None]) -> bool:
        """Enter now, or have `later` called once there is room, which then is taken."""
        if self._free > 0:
            self._free -= 1
            return True
        self._waiting.append(later)
        return False

    def leave(self) -> None:
        """Make room for the next one."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1

    def give_up(self, later: Callable[[], None]) -> None:
        """Wait no more."""
        self._waiting.remove(later)
