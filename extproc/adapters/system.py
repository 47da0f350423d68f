"""The system's clock and a log of one JSON line per event."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import IO

import orjson


class SystemClock:
    """Time as the machine tells it."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


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
        stream.write(orjson.dumps(record, default=str).decode() + "\n")
        stream.flush()
