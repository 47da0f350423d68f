"""Free ports and short folders."""

from __future__ import annotations

import itertools
import secrets
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# Below the ports that the kernel gives to connections (32768 and up on Linux), and none twice: what
# is free now may be somebody's own or another's before it is used.
_FIRST, _COUNT = 10_000, 22_000
_NUMBERS = itertools.count(secrets.randbelow(_COUNT))


def free_port() -> int:
    """Return a port that nobody listens on, another each time."""
    for number in _NUMBERS:
        port = _FIRST + number % _COUNT
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError  # the numbers don't end


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder whose path leaves room for a Unix socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="xt-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
