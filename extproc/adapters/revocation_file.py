"""The revocations of a gateway as a file of JSON lines: its supervisor adds, its workers follow.

With `revocations: {file: …}` it is the operator's and outlives a restart; else it lies in the
runtime folder. A line that ends in the middle was never acknowledged and isn't read.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from extproc.core.revocation import BadRevocation, Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extproc.core.revocation import Revoked


class RevocationFile:
    """One end: the supervisor calls `open` and `append`, a worker `follow`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def open(self, now: float) -> list[Revocation]:
        """Make the file, or leave out of it what has become void.

        Returns:
            The revocations that it holds.

        Raises:
            BadRevocation: a line can't be read.
            OSError: the file can't be written.
        """
        kept = [one for one in self._lines() if one.until > now]
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        with fresh.open("wb") as output:
            output.writelines(map(written, kept))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(self._path)
        return kept

    def append(self, revocation: Revocation) -> None:
        """Add one; it is on the disk when this returns.

        Raises:
            OSError: it can't be written.
        """
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

    def follow(self, revoked: Revoked) -> None:
        """Put in force what came since the last call.

        Raises:
            BadRevocation: a line can't be read, or there are too many.
            OSError: the file can't be read.
        """
        for revocation in self._lines():
            revoked.add(revocation)

    def _lines(self) -> Iterator[Revocation]:
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
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
