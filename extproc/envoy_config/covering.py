"""Which path patterns cover others: every path of one is a path of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.routes import PathPattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PARAMETER = "{"


def wider_paths(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return, for each pattern, those that all its paths are paths of; it is one of them.

    Args:
        paths: patterns as the gateway file writes them; their syntax was checked.
    """
    patterns = [PathPattern.parse(path) for path in dict.fromkeys(paths)]
    root = _Node()
    for pattern in patterns:
        root.add(pattern)
    return {pattern.text: frozenset(root.covering(pattern)) for pattern in patterns}


class _Node:
    """Patterns by their segments: finds those that cover another without a look at the rest."""

    __slots__ = ("exact", "following", "open_ended")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.exact: list[str] = []
        self.open_ended: list[str] = []

    def add(self, pattern: PathPattern) -> None:
        """Take a pattern in."""
        node = self
        for segment in pattern.segments:
            node = node.following.setdefault(_kind(segment), _Node())
        (node.open_ended if pattern.open_ended else node.exact).append(pattern.text)

    def covering(self, narrow: PathPattern) -> Iterator[str]:
        """Yield each pattern that has every path of this one.

        A parameter stands for any segment that isn't empty; `/*` for one more at least.
        """
        nodes = [self]
        for segment in narrow.segments:
            for node in nodes:
                yield from node.open_ended
            ways = dict.fromkeys((_PARAMETER, _kind(segment)) if segment else ("",))
            nodes = [node.following[way] for node in nodes for way in ways if way in node.following]
        for node in nodes:
            yield from node.open_ended if narrow.open_ended else node.exact


def _kind(segment: str) -> str:
    return _PARAMETER if segment.startswith(_PARAMETER) else segment
