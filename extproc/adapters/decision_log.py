"""Decision records: one JSON line for each exchange, to standard output or a file.

Records are collected in plain values on the way, written as JSON by the batch, and handed to a
thread, so that neither a slow pipe nor a slow disk holds up an exchange. What waits is bounded:
beyond `_MOST_WAITING` bytes whole batches are dropped and counted, and the gap shows in `seq`,
which counts every record of a worker process from 1. A line is written at once and whole: several
workers share the output, and a pipe keeps writes of up to 4096 bytes together.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from extproc.core.ports import Observer
    from extproc.core.records import Record

_BATCH = 256
_MOST_WAITING = 16 << 20
_ATOMIC = 4096  # PIPE_BUF on Linux
_LONGEST_TEXT = 512
_CLOSE_WITHIN = 3.0


class DecisionLog:
    """A recorder that costs an append; call `flush` now and then.

    Args:
        worker: the number of this worker.
        writer: takes batches.
        now: seconds since the epoch.
        observer: where written and dropped records are counted.
    """

    def __init__(
        self, worker: int, writer: Writer, now: Callable[[], float], observer: Observer
    ) -> None:
        # A process that takes a worker's place counts anew; its id tells the two apart.
        self._worker = f"{worker}.{os.getpid()}"
        self._writer = writer
        self._now = now
        self._observer = observer
        self._seq = 0
        self._pending: list[tuple[float, Record]] = []

    def record(self, record: Record) -> None:
        """Take one."""
        self._pending.append((self._now(), record))
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what was collected to the writer."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        lines = [self._line(moment, record) for moment, record in pending]
        outcome = "written" if self._writer.put(lines) else "dropped"
        self._observer.count("extproc_decision_records_total", (outcome,), len(lines))

    def _line(self, moment: float, record: Record) -> bytes:
        self._seq += 1
        fields = self._fields(moment, record)
        line = _written(fields)
        if len(line) > _ATOMIC:
            line = _written(fields | {"inputs": None, "calls": None, "cut": True})
        return line

    def _fields(self, moment: float, record: Record) -> dict[str, Any]:
        request, facts = record.request, record.request.facts
        principal = request.principal
        inputs = facts.inputs
        if inputs is not None and facts.absent:
            inputs = {**inputs, "absent": facts.absent}
        return {
            "time": datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds"),
            "seq": self._seq,
            "worker": self._worker,
            "request_id": _cut(request.id) or None,
            "route": request.route or None,
            "host": _cut(request.host),
            "method": _cut(request.method),
            "path": _cut(request.path),
            "principal": {
                "authenticator": principal.authenticator or None,
                "kind": principal.kind,
                "subject": _cut(principal.subject) or None,
                "issuer": _cut(principal.issuer) or None,
            },
            "consumer": request.consumer or None,
            "decision": record.decision,
            "status": record.status,
            "by": record.by or None,
            "rule": facts.rule or None,
            "reason": facts.reason or record.reason or None,
            "version": record.version or None,
            "candidate": None
            if facts.candidate is None
            else {"decision": facts.candidate[0], "rule": facts.candidate[1] or None},
            "inputs": inputs,
            "cache": facts.cache or None,
            "calls": facts.calls,
            "duration_us": round(record.seconds * 1e6),
        }

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self._writer.close()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _written(fields: dict[str, Any]) -> bytes:
    """Write a line; text that is no Unicode (a lone surrogate) is written with escapes."""
    try:
        return orjson.dumps(fields, default=_plain, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_sound(fields), default=str, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value)


def _sound(value: Any) -> Any:
    """Return the same value with every text made one that JSON can carry, and keys as text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sound(str(name)): _sound(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else _sound(str(value))


class Writer:
    """A thread that writes lines to a file or to standard output.

    A file that was moved away (as log rotation does) is opened anew under its name.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file = os.dup(sys.stdout.fileno()) if path is None else _opened(path)
        self._waiting: deque[list[bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def put(self, lines: list[bytes]) -> bool:
        """Take lines; False says that too much waits and they were dropped."""
        size = sum(map(len, lines))
        with self._changed:
            if self._size + size > _MOST_WAITING:
                return False
            self._waiting.append(lines)
            self._size += size
            self._changed.notify()
        return True

    def close(self) -> None:
        """Write what waits, for some seconds at most, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_WITHIN)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    break
                lines = self._waiting.popleft()
            with suppress(OSError):  # a reader that is gone, a full disk: exchanges go on
                self._reopen_if_moved()
                for block in _blocks(lines):
                    _write_all(self._file, block)
            with self._changed:
                self._size -= sum(map(len, lines))
        os.close(self._file)

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        try:
            same = os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            os.close(self._file)
            self._file = _opened(self._path)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _blocks(lines: list[bytes]) -> list[bytes]:
    """Join lines to writes that a pipe keeps together."""
    blocks: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if size + len(line) > _ATOMIC and blocks[-1]:
            blocks.append([])
            size = 0
        blocks[-1].append(line)
        size += len(line)
    return [b"".join(block) for block in blocks]


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
