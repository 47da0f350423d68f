"""Free ports and short folders."""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder whose path leaves room for a Unix socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="xt-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
