"""Sockets at paths: what a process left behind is taken over, and nothing else."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def bound(path: Path) -> socket.socket:
    """Bind a path.

    Raises:
        OSError: it can't be bound; another process listens there, or something is there that is
            no socket.
    """
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
    except OSError as error:
        made.close()
        why = "address already in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(error.errno, why or str(error), str(path)) from error
    return made
