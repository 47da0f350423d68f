"""What is wrong with a gateway file, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.core.errors import ConfigFault

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        at: where.
        key: which key, for example `routes[2].cache.ttl`; empty for the file as a whole.
        problem: what is wrong.
        expected: what would be right.
    """

    at: Position
    key: str
    problem: str
    expected: str = ""

    def __str__(self) -> str:
        """Write `file:line:column: key: what is wrong, what was expected`."""
        place = f"{self.at.file}:{self.at.line}:{self.at.column}"
        text = f"{self.problem}, {self.expected}" if self.expected else self.problem
        return _one_line(f"{place}: {self.key}: {text}" if self.key else f"{place}: {text}")


def _one_line(text: str) -> str:
    """Write out what would break a line or drive a terminal; names come from the file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ConfigError(ConfigFault):
    """A gateway file that can't be used; all its troubles, one per line."""

    def __init__(self, troubles: Iterable[Trouble]) -> None:
        self.troubles = tuple(troubles)
        super().__init__("\n".join(map(str, self.troubles)))
