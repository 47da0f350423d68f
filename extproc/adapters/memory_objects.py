"""Objects of one process, bounded in bytes: W-TinyLFU (Einziger, Friedman, Manes, 2017).

New objects come into a small window that is least-recently-used. What leaves the window is let
into the rest only if nothing that would have to go for it was asked for more often; how often, an
approximate count says that fades with time. Of two that were asked for as often coins decide:
always to keep the older would freeze what is kept, never to keep it would let a cycle of keys
displace each other. The rest is segmented: on probation until asked for again, then protected. A
scan, or keys that are asked for once, displace nothing that is in use.

Every operation is O(1): ordered dictionaries, and a count in four rows of small numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from random import getrandbits
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

LARGEST = 64 << 20
_WINDOW = 0.01
_OFTEN = 5
_TOSSES = 3  # of a coin, all of which the newer one must win
_PROTECTED = 0.8  # of the rest
PLACE = 350  # bytes for one key's places: the entry, the node, the tuple around the object
_MOST_COUNTED = 15
_ROWS = 4
_FADES_AFTER = 10  # times the width
_TYPICAL = 512  # bytes for each number of a row
_UNCOUNTED = 64  # requests that wait to be counted
_HALVED = bytes(number >> 1 for number in range(256))

type_of_kept = tuple[Any, int]


class Frequencies:
    """About how often each key was asked for lately: a count-min sketch that is halved at times."""

    def __init__(self, width: int) -> None:
        """Count in four rows of `width` (a power of two) numbers."""
        self._mask = width - 1
        self._rows = [bytearray(width) for _ in range(_ROWS)]
        self._left = self._until = width * _FADES_AFTER

    def add(self, key: Hashable) -> None:
        """Count one request."""
        number = hash(key)
        step = (number >> 32) | 1
        mask = self._mask
        for row in self._rows:
            place = number & mask
            if row[place] < _MOST_COUNTED:
                row[place] += 1
            number += step
        self._left -= 1
        if self._left <= 0:
            self._fade()

    def of(self, key: Hashable) -> int:
        """Return about how often a key was asked for."""
        number = hash(key)
        step = (number >> 32) | 1
        mask = self._mask
        least = _MOST_COUNTED
        for row in self._rows:
            least = min(least, row[number & mask])
            number += step
        return least

    def _fade(self) -> None:
        self._left = self._until
        self._rows = [bytearray(row.translate(_HALVED)) for row in self._rows]


class _Segment:
    """Objects in the order of their last use, and what they cost."""

    __slots__ = ("cost", "kept", "most")

    def __init__(self, most: int) -> None:
        self.kept: OrderedDict[Hashable, type_of_kept] = OrderedDict()
        self.cost = 0
        self.most = most

    def add(self, key: Hashable, kept: type_of_kept) -> None:
        self.kept[key] = kept
        self.cost += kept[1]

    def take(self, key: Hashable) -> type_of_kept:
        kept = self.kept.pop(key)
        self.cost -= kept[1]
        return kept

    def oldest(self) -> tuple[Hashable, type_of_kept]:
        key, kept = self.kept.popitem(last=False)
        self.cost -= kept[1]
        return key, kept


class MemoryObjects:
    """Keeps objects that cost at most `largest` bytes together."""

    def __init__(self, largest: int = LARGEST) -> None:
        width = 1 << max(10, (largest // _TYPICAL).bit_length())
        room = max(largest - width * _ROWS, 0)
        window = int(room * _WINDOW)
        self._frequencies = Frequencies(width)
        self._window = _Segment(window)
        self._main = room - window
        self._probation = _Segment(0)
        self._protected = _Segment(int(self._main * _PROTECTED))
        self._room = room
        self._asked: list[Hashable] = []

    @property
    def cost(self) -> int:
        """What everything kept costs, bytes."""
        return self._window.cost + self._probation.cost + self._protected.cost

    def __len__(self) -> int:
        """Return how many objects are kept."""
        return sum(len(part.kept) for part in (self._window, self._probation, self._protected))

    def get(self, key: Hashable) -> Any | None:
        """Return an object, and remember that it was asked for.

        It is counted when something is to be let in, which is when it matters: while all that is
        asked for is there, the first of many requests stand for the rest.
        """
        asked = self._asked
        if len(asked) < _UNCOUNTED:
            asked.append(key)
        kept = self._protected.kept.get(key)
        if kept is not None:
            self._protected.kept.move_to_end(key)
            return kept[0]
        kept = self._probation.kept.get(key)
        if kept is not None:
            self._promote(key)
            return kept[0]
        kept = self._window.kept.get(key)
        if kept is not None:
            self._window.kept.move_to_end(key)
            return kept[0]
        return None

    def _promote(self, key: Hashable) -> None:
        self._protected.add(key, self._probation.take(key))
        while self._protected.cost > self._protected.most:
            self._probation.add(*self._protected.oldest())

    def put(self, key: Hashable, value: object, cost: int) -> None:
        """Keep an object in place of the one that has its key; one that is too large isn't kept."""
        cost += PLACE
        for segment in (self._protected, self._probation, self._window):
            if key in segment.kept:
                segment.take(key)
                if cost <= self._room // 4:
                    segment.add(key, (value, cost))
                    self._shrink()
                return
        if cost > self._room // 4:
            return
        self._window.add(key, (value, cost))
        self._shrink()

    def drop(self, key: Hashable) -> None:
        """Forget an object."""
        for segment in (self._protected, self._probation, self._window):
            if key in segment.kept:
                segment.take(key)
                return

    def clear(self) -> None:
        """Forget everything."""
        for segment in (self._protected, self._probation, self._window):
            segment.kept.clear()
            segment.cost = 0

    def _shrink(self) -> None:
        for key in self._asked:
            self._frequencies.add(key)
        self._asked.clear()
        while self._window.cost > self._window.most and self._window.kept:
            self._admit(*self._window.oldest())
        while self._protected.cost > self._protected.most:
            self._probation.add(*self._protected.oldest())
        while self._probation.cost + self._protected.cost > self._main:
            (self._probation if self._probation.kept else self._protected).oldest()

    def _admit(self, key: Hashable, kept: type_of_kept) -> None:
        """Let what leaves the window in, if nothing that must go was asked for more."""
        missing = self._probation.cost + self._protected.cost + kept[1] - self._main
        if missing > 0 and not self._make_room(key, missing):
            return
        self._probation.add(key, kept)

    def _make_room(self, key: Hashable, missing: int) -> bool:
        """Let the oldest go until so many bytes are free; none if one was asked for more."""
        asked = self._frequencies.of(key)
        freed = 0
        victims = []
        for segment in (self._probation, self._protected):
            for victim, (_, cost) in segment.kept.items():
                if freed >= missing:
                    break
                known = self._frequencies.of(victim)
                if known > asked or (known == asked and known > _OFTEN and getrandbits(_TOSSES)):
                    return False
                victims.append((segment, victim))
                freed += cost
        for segment, victim in victims:
            segment.take(victim)
        return freed >= missing
