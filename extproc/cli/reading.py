"""What people hand over in files, pipes or on standard input: never read without end."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_LARGEST = 64 << 20  # bytes of a request or a key; more than any listener is told to take
_LONGEST_LINE = 16 << 20  # bytes; records are far shorter
_STANDARD = Path("-")


class Unreadable(Exception):
    """What was handed over can't be read, or is too large; the message says which and why."""


def content(path: Path) -> bytes:
    """Return the content of a file, a pipe, or for - of standard input.

    Raises:
        Unreadable: it can't be read, or there is too much of it.
    """
    with _opened(path) as file:
        found = file.read(_LARGEST + 1)
    if len(found) > _LARGEST:
        raise Unreadable(f"{_named(path)} is larger than {_LARGEST >> 20} MiB")
    return found


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, a pipe, or for - of standard input, however many there are.

    Raises:
        Unreadable: it can't be read, or a line has no end in sight.
    """
    number = 0
    with _opened(path) as file:
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                problem = f"line {number} is longer than {_LONGEST_LINE >> 20} MiB"
                raise Unreadable(f"{_named(path)}: {problem}")
            yield line


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if path == _STANDARD:
            yield sys.stdin.buffer
            return
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise Unreadable(f"{_named(path)} can't be read: {error.strerror}") from error


def _named(path: Path) -> str:
    return "standard input" if path == _STANDARD else str(path)
