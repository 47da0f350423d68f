"""The system's clock and a log of one JSON line per event."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import ssl
import stat
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson

_MADE_WITHIN = 60.0  # seconds
_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)


class SystemClock:
    """Time as the machine tells it."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class _LibraryHandler(logging.Handler):
    """Writes what libraries log in the same form as our own events."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a traceback's values may be secrets, its kind is enough."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        self._log.warning(record.getMessage(), logger=record.name, error=kind)


def capture_logging(log: JsonLog) -> None:
    """Have every library's log go through ours: one JSON line per event."""
    logging.basicConfig(handlers=[_LibraryHandler(log)], level=logging.WARNING, force=True)


class JsonLog:
    """Writes events to a stream, by default standard error; a value can't break a line."""

    def __init__(self, source: str, stream: IO[str] | None = None) -> None:
        self._source = source
        self._stream = stream

    def info(self, event: str, **fields: object) -> None:
        """Record something normal."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Record something an operator should look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Record a failure."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "source": self._source,
            "event": event,
            **fields,
        }
        stream = self._stream if self._stream is not None else sys.stderr
        # A reader that is gone or a full disk is no reason for whoever logs to fail.
        with suppress(OSError, ValueError):
            stream.write(orjson.dumps(record, default=str).decode() + "\n")
            stream.flush()


def system_roots() -> str:
    """Return the file with the certificates this system trusts, as OpenSSL knows it."""
    paths = ssl.get_default_verify_paths()
    candidates = (paths.cafile, paths.openssl_cafile, *_ROOTS)
    return next((path for path in candidates if path and Path(path).is_file()), _ROOTS[0])


def held(folder: Path) -> int:
    """Keep what is in a folder from being cleaned away; returns what to close at the end.

    What cleans /tmp takes for forgotten what nobody has touched for ten days. A worker that is
    replaced later still reads versions and revocations, and commands read the token. A folder that
    is locked is left alone, with all that is in it (tmpfiles.d(5), "Age").
    """
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(BlockingIOError):  # another gateway keeps it
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def remove_forgotten(prefix: str, inside: str) -> None:
    """Remove folders of this user in the temporary one that nobody holds any more.

    What was killed leaves its folder, in which there may be copies of keys. One that was made just
    now may not be held yet.

    Args:
        prefix: of their names.
        inside: a folder that each has.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            about = folder.lstat()
            mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
            if mine and time.time() - about.st_mtime > _MADE_WITHIN and (folder / inside).is_dir():
                _remove_unheld(folder)


def _remove_unheld(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
