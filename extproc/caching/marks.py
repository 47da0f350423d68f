"""What was invalidated or purged: marks that stored responses are held against.

One URI has many stored responses (one for each principal, each variant), and a tag or an operator
means more still. So nothing is looked for: a mark says from when on what was asked before is void
(or stale), and each stored response is held against the marks when it is next wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from extproc.caching.keys import short

if TYPE_CHECKING:
    from extproc.caching.entry import Entry
    from extproc.core.ports import Names

MOST = 100_000
ALL = "all"
URI = "uri"
TAG = "tag"


class Verdict(Enum):
    """What the marks say of a stored response."""

    GOOD = "good"
    STALE = "stale"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Mark:
    """One invalidation or purge.

    Attributes:
        kind: `all`, `uri` or `tag`.
        name: the URI or tag, or what stands for a long one (see `short`); empty for all.
        soft: makes stale, not void.
    """

    kind: str
    name: str = ""
    soft: bool = False

    def __post_init__(self) -> None:
        """Keep a long name short: marks are bounded in number."""
        if self.name:
            object.__setattr__(self, "name", short(self.name))

    def means(self, entry: Entry) -> bool:
        """Say whether it is about a stored response."""
        if self.kind == TAG:
            return self.name in entry.tags
        return self.kind == ALL or self.name == entry.uri


class Marks:
    """The marks that one worker knows of, in the order in which it learned of them.

    A bound keeps them from growing without end: when the oldest is let go, all that was asked
    for before it is void.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._marks: OrderedDict[Mark, int] = OrderedDict()
        self._floor = 0
        self.sequence = 0

    def add(self, mark: Mark) -> None:
        """Make a mark; it holds for all that was asked for before now."""
        self.sequence += 1
        self._marks[mark] = self.sequence
        self._marks.move_to_end(mark)
        if len(self._marks) > self._most:
            self._floor = self._marks.popitem(last=False)[1]

    def add_at(self, mark: Mark, sequence: int) -> None:
        """Make a mark at a place in an order that others keep."""
        self.sequence = max(self.sequence, sequence - 1)
        self.add(mark)

    def raise_floor(self, floor: int) -> None:
        """Make all that was asked for before a mark void."""
        self._floor = max(self._floor, floor)

    def clear(self) -> None:
        """Make all that was asked for before now void, and forget the marks."""
        self.sequence += 1
        self._marks.clear()
        self._floor = self.sequence

    def newest(self, names: Names, *, soft: bool) -> int:
        """Return the newest mark of a kind that means any of these; 0 for none."""
        return max([self._marks.get(Mark(*name, soft), 0) for name in names], default=0)

    def judge(self, entry: Entry, about: Names = ()) -> Verdict:
        """Hold a stored response against the marks made since it was last held against them.

        Args:
            entry: the response.
            about: names of what it is wanted for, beside its own.
        """
        since, entry.seen = entry.seen, self.sequence
        if self._floor > entry.stamp:
            return Verdict.VOID
        names = [(ALL, ""), (URI, entry.uri), *[(TAG, tag) for tag in entry.tags], *about]
        if any(self._since(kind, name, entry.stamp, soft=False) for kind, name in names):
            return Verdict.VOID
        since = max(since, entry.stamp)
        if any(self._since(kind, name, since, soft=True) for kind, name in names):
            return Verdict.STALE
        return Verdict.GOOD

    def _since(self, kind: str, name: str, since: int, *, soft: bool) -> bool:
        return self._marks.get(Mark(kind, name, soft), 0) > since
