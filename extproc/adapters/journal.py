"""A few bytes shared with the supervisor: which plugin's hook is running right now.

A worker whose interpreter is stuck in C code can say nothing; the supervisor that has to kill
it reads here whose hook it was, and starts the next worker with that plugin in threads.

The first byte is the number of the plugin whose hook runs, 0 for none; then come the names in the
order of their numbers, each behind its length.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SIZE = 1 << 16
_MOST = 255  # of names; a name is cut to as many bytes


class Journal:
    """The worker's end; writing costs one byte in shared memory.

    Attributes:
        memory: its first byte is the number of the plugin whose hook runs.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._numbers: dict[str, int] = {}
        self._end = 1
        self.memory = _shared(path) if path is not None else mmap.mmap(-1, _SIZE)

    def number(self, name: str) -> int:
        """Return a plugin's number, given when it is first asked for; 0 if none is left."""
        known = self._numbers.get(name)
        return self._named(name) if known is None else known

    def _named(self, name: str) -> int:
        number = len(self._numbers) + 1 if len(self._numbers) < _MOST else 0
        self._numbers[name] = number
        if number:
            text = name.encode()[:_MOST]
            self.memory[self._end : self._end + 1 + len(text)] = bytes([len(text)]) + text
            self._end += 1 + len(text)
        return number


def _shared(path: Path) -> mmap.mmap:
    path.write_bytes(bytes(_SIZE))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _SIZE)


def running(path: Path) -> str:
    """Return whose hook a worker was running, for the supervisor; empty for nobody's."""
    try:
        record = path.read_bytes()
    except OSError:
        return ""
    at = 1
    for _ in range(record[0] - 1 if record else 0):
        at += 1 + record[at]
    name = record[at + 1 : at + 1 + record[at]] if record[:1] > b"\0" else b""
    return name.decode(errors="replace")
