"""A few bytes shared with the supervisor: which plugin's hook is running right now.

A worker whose interpreter is stuck in C code can say nothing; the supervisor that has to kill
it reads here whose hook it was, and starts the next worker with that plugin in threads.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SIZE = 256


class Journal:
    """The worker's end; writing costs one copy into shared memory."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._last = ""
        self._length = 0

    def armed(self, name: str) -> None:
        """Record that this plugin's hook runs."""
        if name == self._last:
            self._memory[0] = self._length
            return
        text = name.encode()[: _SIZE - 1]
        self._last, self._length = name, len(text)
        self._memory[: 1 + len(text)] = bytes([len(text)]) + text

    def disarmed(self) -> None:
        """Record that no hook runs."""
        self._memory[0] = 0


def running(path: Path) -> str:
    """Return whose hook a worker was running, for the supervisor; empty for nobody's."""
    try:
        record = path.read_bytes()
    except OSError:
        return ""
    return record[1 : 1 + record[0]].decode(errors="replace") if record else ""
