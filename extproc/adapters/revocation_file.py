"""The revocations of a gateway as a file of JSON lines: its supervisor adds, its workers follow.

With `revocations: {file: …}` it outlives a restart; else it lies in the runtime folder. A line
that ends in the middle was never acknowledged and isn't read.

While the gateway runs the file is its own. What others do to it (rotate, cut, delete, a folder
that is swapped for another) is undone from memory, and a worker that finds another file than the
one it read begins at the start: a revocation that was acknowledged is in force.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from extproc.core.revocation import BadRevocation, Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extproc.core.revocation import Revoked


_Place = tuple[int, int]  # device and inode


class RevocationFile:
    """One end: the supervisor calls `open` and `append`, a worker `follow`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._reading: _Place | None = None
        self._kept: dict[Revocation, None] = {}
        self._written: tuple[_Place, int] | None = None

    def open(self, now: float) -> list[Revocation]:
        """Make the file, or leave out of it what has become void.

        Returns:
            The revocations that it holds.

        Raises:
            BadRevocation: a line can't be read.
            OSError: the file can't be written.
        """
        found = self._lines() if self._path.exists() else ()
        self._kept = dict.fromkeys(one for one in found if one.until > now)
        self._write()
        return list(self._kept)

    def mend(self) -> bool:
        """Write everything again where somebody else changed the file; say whether that was so.

        Raises:
            OSError: it can't be written.
        """
        if self._looks() == self._written:
            return False
        self._read, self._reading = 0, None
        with suppress(OSError, BadRevocation):  # what can't be read is nobody's
            for one in self._lines():  # of another gateway that was given the same file
                self._kept[one] = None
        self._write()
        return True

    def _looks(self) -> tuple[_Place, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return (stat.st_dev, stat.st_ino), stat.st_size

    def _write(self) -> None:
        """Put a file with everything in the place of the one there is."""
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        with fresh.open("wb") as output:
            output.writelines(map(written, self._kept))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(self._path)
        self._written = self._looks()

    def append(self, revocation: Revocation) -> None:
        """Add one; it is on the disk when this returns.

        Raises:
            OSError: it can't be written.
        """
        self.mend()
        with self._path.open("ab", buffering=0) as output:
            size = output.seek(0, os.SEEK_END)
            try:
                rest = memoryview(written(revocation))
                while rest:
                    rest = rest[output.write(rest) :]
            except OSError:
                output.truncate(size)  # half a line would take the next one with it
                raise
            os.fsync(output.fileno())
        self._kept[revocation] = None
        self._written = self._looks()

    def follow(self, revoked: Revoked) -> None:
        """Put in force what came since the last call.

        Raises:
            BadRevocation: a line can't be read, or there are too many.
            OSError: the file can't be read, or is gone.
        """
        for revocation in self._lines():
            revoked.add(revocation)

    def _lines(self) -> Iterator[Revocation]:
        with self._path.open("rb") as lines:
            stat = os.fstat(lines.fileno())
            place = stat.st_dev, stat.st_ino
            if place != self._reading or stat.st_size < self._read:
                self._reading, self._read = place, 0
            lines.seek(self._read)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield parsed(line, self._path.name)


def written(revocation: Revocation) -> bytes:
    """Write a revocation as one line of JSON."""
    return orjson.dumps({k: v for k, v in asdict(revocation).items() if v}) + b"\n"


def parsed(line: bytes, name: str) -> Revocation:
    """Read a line.

    Args:
        line: JSON.
        name: where it stands, for the error.

    Raises:
        BadRevocation: it is no revocation.
    """
    try:
        return Revocation(**orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError, BadRevocation) as error:
        raise BadRevocation(f"{name}: a line is no revocation: {error}") from error
