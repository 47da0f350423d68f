"""What people hand over in files: read whole, and never without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_LARGEST = 64 << 20  # bytes of a request or a key; more than any listener is told to take
_LONGEST_LINE = 16 << 20  # bytes; records are far shorter


class Unreadable(Exception):
    """A file can't be read, or is too large; the message says which and why."""


def content(path: Path) -> bytes:
    """Return a file's content; it may be a pipe.

    Raises:
        Unreadable: it can't be read, or there is too much of it.
    """
    try:
        with path.open("rb") as file:
            found = file.read(_LARGEST + 1)
    except OSError as error:
        raise Unreadable(f"{path} can't be read: {error.strerror}") from error
    if len(found) > _LARGEST:
        raise Unreadable(f"{path} is larger than {_LARGEST >> 20} MiB")
    return found


def lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield a file's lines, however many there are.

    Raises:
        Unreadable: a line has no end in sight.
    """
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise Unreadable(f"{name}: line {number} is longer than {_LONGEST_LINE >> 20} MiB")
        yield line
