"""Decision records: one JSON line for each exchange, to standard output or a file.

Lines are collected and handed to a thread by the batch, so that neither a slow pipe nor a slow disk
holds up an exchange. What waits is bounded:
beyond `_MOST_WAITING` bytes whole batches are dropped and counted, and the gap shows in `seq`,
which counts every record of a worker process from 1. Several workers share the output: a file that
is appended to keeps every write together, a pipe those of up to 4096 bytes.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from extproc.core.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from extproc.core.ports import Observer
    from extproc.core.records import Record

_BATCH = 256
_FIELDS = 4  # of a record until it is written
_MOST_WAITING = 16 << 20
_ATOMIC = 4096  # PIPE_BUF on Linux
_AROUND = 700  # what stands around the common fields, at most
_LONGEST_TEXT = 512
_REMEMBERED = 1024
_NOTHING = Facts()
_CLOSE_WITHIN = 3.0
_NONE = -1  # no descriptor: writing to it fails


class Lines(Protocol):
    """Takes lines of records; `Writer` does.

    Attributes:
        failed: how many lines were taken, and couldn't be written.
    """

    failed: int

    def put(self, lines: list[bytes]) -> bool:
        """Take lines; False says that they were dropped."""
        ...

    def close(self) -> None:
        """Write what waits, within a while."""
        ...


class DecisionLog:
    """A recorder that never waits.

    Args:
        worker: the number of this worker.
        writer: takes batches.
        now: seconds since the epoch.
        observer: where written, failed and dropped records are counted.
        soon: told when there is something to flush, once until then; whole batches need no word.
    """

    def __init__(
        self,
        worker: int,
        writer: Lines,
        now: Callable[[], float],
        observer: Observer,
        soon: Callable[[], object] | None = None,
    ) -> None:
        # A process that takes a worker's place counts anew; its id tells the two apart.
        self._worker = f"{worker}.{os.getpid()}".encode()
        self._writer = writer
        self._handed = _Counted(writer, observer)
        self._now = now
        self._soon = soon or _never
        self._told = False
        self._seq = 0
        # Of each record its moment, request id, middle and seconds, one behind the other: what a
        # batch has in common is written faster than the same line by line, and no exchange is
        # kept for it.
        self._collected: list[Any] = []
        self._known: dict[Any, tuple[bytes, Any, Any]] = {}

    def record(self, record: Record) -> None:
        """Take one; what many have in common, all but moment, number and id, is written once."""
        request = record.request
        facts = request.noted
        key: Any = (
            request.path,
            request.route,
            request.host,
            request.method,
            request.consumer,
            id(request.principal),
            record.version,
            record.decision,
            record.status,
            record.by,
            record.reason,
        )
        if facts is None:
            known = self._known.get(key)
        elif facts.calls is None:
            key = (key, facts.rule, id(facts.inputs), facts.reason, facts.cache, facts.candidate)
            known = self._known.get(key)
        else:
            known = (_fields(record, facts), None, None)
        middle = known[0] if known is not None else self._new_middle(key, record)
        collected = self._collected
        if not self._told:
            self._told = True
            self._soon()
        collected += (self._now(), request.id, middle, record.seconds)
        if len(collected) >= _BATCH * _FIELDS:
            self._hand_on()

    def flush(self) -> None:
        """Hand what was collected to the writer."""
        self._told = False
        self._hand_on()

    def _hand_on(self) -> None:
        if not self._collected:
            return
        collected, self._collected = self._collected, []
        self._handed.put(self._lines(iter(collected)))

    def _lines(self, fields: Iterator[Any]) -> list[bytes]:
        lines = []
        seq, worker = self._seq, self._worker
        known, time, dumps = -1, b"", orjson.dumps
        for moment, request_id, middle, seconds in zip(fields, fields, fields, fields, strict=True):
            seq += 1
            milliseconds = int(moment * 1000)
            if milliseconds != known:  # many records are of the same
                known, time = milliseconds, _time(milliseconds)
            lines.append(
                b'{"time":"%b","seq":%d,"worker":"%b","request_id":%b,%b,"duration_us":%d}\n'
                % (
                    time,
                    seq,
                    worker,
                    dumps(request_id)
                    if 0 < len(request_id) <= _LONGEST_TEXT and request_id.isascii()
                    else _id(request_id),
                    middle,
                    round(seconds * 1e6),
                )
            )
        self._seq = seq
        return lines

    def _new_middle(self, key: Any, record: Record) -> bytes:
        """Write what records with a key have in common, and remember it where it is short."""
        request = record.request
        facts = request.noted or _NOTHING
        written = _fields(record, facts)
        if len(request.path) + len(request.host) <= _LONGEST_TEXT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            # The entry holds what the key names by its id, so neither can become another's.
            self._known[key] = (written, request.principal, facts.inputs)
        return written

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self._writer.close()


def _never() -> None:
    """Leave it to whole batches and the end."""


def _time(milliseconds: int) -> bytes:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").encode()


def _id(request_id: str) -> bytes:
    return _json(_cut(request_id) or None)


def _fields(record: Record, facts: Facts) -> bytes:
    """Write the fields from `route` to `calls`, without braces; never too long for one write."""
    request, principal = record.request, record.request.principal
    inputs = facts.inputs
    if inputs is not None and facts.absent:
        inputs = {**inputs, "absent": facts.absent}
    fields = {
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
    }
    written = _json(fields)
    if len(written) > _ATOMIC - _AROUND:
        written = _json(fields | {"inputs": None, "calls": None, "cut": True})
    return written[1:-1]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _json(value: Any) -> bytes:
    """Write JSON; text that is no Unicode (a lone surrogate) is written with escapes."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return orjson.dumps(_sound(value), default=str)


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


class _Torn(Exception):
    """Only a part was written.

    Attributes:
        whole: how many lines of it are whole.
        half: it ends within a line.
    """

    def __init__(self, error: OSError, part: bytes) -> None:
        super().__init__(error.strerror)
        self.whole = part.count(b"\n")
        self.half = not part.endswith(b"\n")


class Writer:
    """A thread that writes lines to a file or to standard output.

    A file that was moved away (as log rotation does) is opened anew under its name.

    Args:
        path: the file; None for standard output.
        at_once: refuse a file that can't be opened; else it may become one that can.

    Attributes:
        failed: how many lines were taken, and couldn't be written.

    Raises:
        OSError: it can't be opened, and must be.
    """

    def __init__(self, path: Path | None = None, *, at_once: bool = True) -> None:
        self._path = path
        self._file = _NONE
        try:
            self._file = os.dup(sys.stdout.fileno()) if path is None else _opened(path)
        except OSError:
            if at_once:
                raise
        self._waiting: deque[list[bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self._torn = False
        self.failed = 0
        self._writing = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._writing.start()

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
        self._writing.join(_CLOSE_WITHIN)

    def _run(self) -> None:
        while lines := self._next():
            with suppress(OSError):
                self._reopen_if_moved()
            try:
                self._check_kept()
                self._write(lines)
            except _Torn as error:
                self.failed += len(lines) - error.whole
                self._torn = error.half
            except OSError:  # a reader that is gone, a full disk: exchanges go on
                self.failed += len(lines)
            with self._changed:
                self._size -= sum(map(len, lines))
        if self._file != _NONE:
            os.close(self._file)

    def _next(self) -> list[bytes]:
        """Wait for lines; none of them mean the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else []

    def _write(self, lines: list[bytes]) -> None:
        if self._torn:  # half a line must not take the next one with it
            _write_all(self._file, b"\n")
            self._torn = False
        piped = stat.S_ISFIFO(os.fstat(self._file).st_mode)
        for block in _blocks(lines) if piped else (b"".join(lines),):
            _write_all(self._file, block)

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        try:
            same = self._file != _NONE and os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            # Where it can't be, the one that was moved away still takes records.
            fresh, old = _opened(self._path), self._file
            self._file = fresh
            if old != _NONE:
                os.close(old)

    def _check_kept(self) -> None:
        """Refuse to write to a file that was deleted: nobody would ever read it.

        Raises:
            OSError: it was, and none could be opened under its name.
        """
        if self._path is not None and not os.fstat(self._file).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "it was deleted")


class _Counted:
    """Hands lines to a writer, and counts what becomes of them."""

    def __init__(self, writer: Lines, observer: Observer) -> None:
        self._writer = writer
        self._observer = observer
        self._failed = 0

    def put(self, lines: list[bytes]) -> None:
        """Hand them on; what couldn't be written of earlier ones is counted by now."""
        self.count("written" if self._writer.put(lines) else "dropped", len(lines))
        failed = self._writer.failed
        if failed > self._failed:
            more, self._failed = failed - self._failed, failed
            self.count("failed", more)

    def count(self, outcome: str, number: int) -> None:
        """Count."""
        self._observer.count("extproc_decision_records_total", (outcome,), number)


class ProxyRecords:
    """Takes the records that Envoy writes by itself, and numbers them.

    Args:
        writer: takes lines.
        observer: where written, failed and dropped records are counted.
    """

    def __init__(self, writer: Lines, observer: Observer) -> None:
        self._handed = _Counted(writer, observer)
        self._worker = f"envoy.{os.getpid()}"
        self._seq = 0

    def take(self, line: bytes) -> None:
        """Take one.

        A fragment, which may hold what a query does, is cut off its path; a status of 0 is none.
        """
        self._seq += 1
        try:
            record = orjson.loads(line)
            path = record["path"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._handed.count("dropped", 1)
            return
        if isinstance(path, str):
            record["path"] = path.partition("#")[0]
        record["status"] = record.get("status") or None
        numbered = {"time": None, "seq": self._seq, "worker": self._worker} | record
        self._handed.put([orjson.dumps(numbered) + b"\n"])


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
    """Write everything.

    Raises:
        _Torn: a part was written, and the rest can't be.
        OSError: nothing was written.
    """
    rest = data
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        if len(rest) == len(data):
            raise
        raise _Torn(error, data[: len(data) - len(rest)]) from error
