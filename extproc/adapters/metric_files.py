"""The memory-mapped files that metrics are kept in, with room on the disk for all of each.

The library makes files with holes. To write into a hole while the disk is full ends the process
(SIGBUS), worker and supervisor alike; here the room is had first, or refused as an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

_FIRST = 1 << 16  # bytes
_AROUND = 32  # bytes of a value beside its key, at most: length, padding, value, time


class RoomyDict(MmapedDict):
    """A file of values without holes.

    Raises:
        OSError: there is no room for it.
    """

    _f: Any
    _used: int
    _capacity: int

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as the library calls it
        if not read_mode:
            descriptor = os.open(filename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                _fill(descriptor, _FIRST)
            except OSError:
                Path(filename).unlink()  # who adds all up can't read half of one
                raise
            finally:
                os.close(descriptor)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        wanted, size = self._used + len(key.encode()) + _AROUND, self._capacity
        while size < wanted:
            size *= 2
        if size > self._capacity:
            _fill(self._f.fileno(), size)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _fill(descriptor: int, size: int) -> None:
    """Have a file be at least this large, all of it on the disk."""
    while (missing := size - os.fstat(descriptor).st_size) > 0:
        os.write(descriptor, bytes(missing))


def use() -> None:
    """Have the library keep its values so."""
    values.MmapedDict = RoomyDict  # type: ignore[attr-defined]  # it says nothing of its own
