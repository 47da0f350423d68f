"""Decision records: one JSON line each, whatever is in them; gaps show; nobody waits."""

from __future__ import annotations

import os
import resource
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters import decision_log
from extproc.adapters.decision_log import DecisionLog, ProxyRecords, Writer
from extproc.core.headers import Headers
from extproc.core.principal import Principal
from extproc.core.records import Record
from extproc.core.values import Request
from extproc.testing import Counts
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


FIELDS = (
    "time seq worker request_id route host method path principal consumer decision status by rule "
    "reason version candidate inputs cache calls duration_us"
)


class Kept:
    """A writer that keeps lines, or refuses them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.full = False
        self.failed = 0

    def put(self, lines: list[bytes]) -> bool:
        """Keep."""
        if not self.full:
            self.lines += lines
        return not self.full

    def close(self) -> None:
        """Do nothing."""


def record(path: str = "/a?secret=1", **changes: Any) -> Record:
    """Return a record."""
    request = Request(method="GET", host="shop", target=path, request_id="id-1")
    request.principal = Principal("jwt", "shop", "alice", "https://issuer")
    for name, value in changes.items():
        setattr(request.facts, name, value)
    return Record(request, "v", "allow", None, "", "", 0.001234)


def written(*records: Record) -> list[dict[str, Any]]:
    """Return what is written of records."""
    kept = Kept()
    log = DecisionLog(3, kept, lambda: 1_800_000_000.5, Counts())
    for one in records:
        log.record(one)
    log.flush()
    return [orjson.loads(line) for line in kept.lines]


def test_the_form_of_a_record() -> None:
    """Every field of the contract, in its order; the path without its query."""
    facts: dict[str, Any] = {
        "rule": "r",
        "candidate": ("deny", "c"),
        "inputs": {"a": 1},
        "absent": ("b",),
    }
    (line,) = written(record(**facts, cache="hit", calls=[{"part": "x"}]))
    assert " ".join(line) == FIELDS
    assert line["time"] == "2027-01-15T08:00:00.500+00:00"
    assert (line["path"], line["duration_us"], line["seq"]) == ("/a", 1234, 1)
    assert line["worker"] == f"3.{os.getpid()}"
    assert line["candidate"] == {"decision": "deny", "rule": "c"}
    assert line["inputs"] == {"a": 1, "absent": ["b"]}


BREAKING = ['"}\n{"x":1', "\r\n", "\u2028", "\x1b[31m", "\ud800", "é" * 3000, "\0", "x" * 9000]
NASTY = st.one_of(st.text(max_size=50), st.sampled_from(BREAKING))


@given(NASTY, NASTY, NASTY, NASTY)
def test_any_text_is_one_json_line(host: str, path: str, subject: str, value: str) -> None:
    """L1: nothing breaks out of its line, and no line is longer than a pipe keeps together."""
    kept = Kept()
    log = DecisionLog(0, kept, lambda: 0.0, Counts())
    one = record(inputs={"x": value, "list": [value] * 3})
    one.request.host, one.request.path = host, path
    one.request.principal = Principal("jwt", "a", subject)
    log.record(one)
    log.flush()
    (line,) = kept.lines
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= 4096 + 8192  # what can't be cut further is text of four bytes each
    assert orjson.loads(line)["decision"] == "allow"


def test_a_flush_is_asked_for_once_until_there_is_one() -> None:
    """An idle worker has nothing to look after; whole batches leave by themselves."""
    kept, asked = Kept(), []
    log = DecisionLog(0, kept, lambda: 0.0, Counts(), lambda: asked.append(1))
    assert not asked
    for _ in range(600):
        log.record(record())
    assert len(kept.lines) == 512
    assert len(asked) == 1
    log.flush()
    assert len(kept.lines) == 600
    log.flush()
    assert len(asked) == 1
    log.record(record())
    assert len(asked) == 2


def test_a_record_that_is_too_long_loses_its_inputs() -> None:
    """And says so."""
    (line,) = written(record(inputs={"x": "v" * 5000}))
    assert (line["inputs"], line["cut"]) == (None, True)


def test_dropped_records_are_counted_and_leave_a_gap() -> None:
    """L6: what a full buffer loses shows in `seq` and in the metrics."""
    kept, counts = Kept(), Counts()
    log = DecisionLog(0, kept, lambda: 0.0, counts)
    for full in (False, True, False):
        kept.full = full
        log.record(record())
        log.flush()
    assert [orjson.loads(line)["seq"] for line in kept.lines] == [1, 3]
    name = "extproc_decision_records_total"
    assert counts.counts == {(name, ("written",)): 2, (name, ("dropped",)): 1}


def test_a_file_that_is_moved_away_is_opened_anew(tmp_path: Path) -> None:
    """As log rotation does; nobody else may read it."""
    path = tmp_path / "records"
    writer = Writer(path)
    writer.put([b"1\n"])
    until(lambda: path.read_bytes() == b"1\n", "the first line")
    path.rename(tmp_path / "old")
    writer.put([b"2\n"])
    until(path.exists, "the new file")
    writer.close()
    assert path.read_bytes() == b"2\n"
    assert (tmp_path / "old").read_bytes() == b"1\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_left_is_written_at_the_end(tmp_path: Path) -> None:
    """Closing waits for the thread."""
    path = tmp_path / "records"
    writer = Writer(path)
    log = DecisionLog(0, writer, lambda: 0.0, Counts())
    for _ in range(1000):
        log.record(record())
    log.close()
    seen = [orjson.loads(line)["seq"] for line in path.read_bytes().splitlines()]
    assert seen == list(range(1, 1001))


def test_a_reader_that_is_slow_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe nobody reads: records pile up to the bound, then are dropped."""
    monkeypatch.setattr(decision_log, "_MOST_WAITING", 100_000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    opened: list[int] = []
    reading = threading.Thread(target=lambda: opened.append(os.open(pipe, os.O_RDONLY)))
    reading.start()
    writer = Writer(pipe)
    reading.join()
    counts = Counts()
    log = DecisionLog(0, writer, lambda: 0.0, counts)
    for _ in range(3000):
        log.record(record())
    log.flush()
    assert counts.counts["extproc_decision_records_total", ("dropped",)] > 0
    while os.read(opened[0], 1 << 16):
        if not writer._waiting:
            break
    os.close(opened[0])
    writer.close()


@pytest.mark.parametrize("piped", [True, False])
def test_lines_of_several_writers_don_t_mix(tmp_path: Path, *, piped: bool) -> None:
    """Each write holds whole lines, of at most what its output keeps together."""
    path = tmp_path / "records"
    read = bytearray()
    if piped:
        os.mkfifo(path)

        def drain() -> None:
            with path.open("rb") as pipe:
                while data := pipe.read(1 << 16):
                    read.extend(data)

        reading = threading.Thread(target=drain)
        reading.start()
    writers = [Writer(path) for _ in range(4)]
    lines = [b"%d" % n * 700 + b"\n" for n in range(1, 9)]
    for _ in range(50):
        for writer in writers:
            writer.put(lines)
    for writer in writers:
        writer.close()
    if piped:
        reading.join(10)
    else:
        read.extend(path.read_bytes())
    found = read.splitlines(keepends=True)
    assert len(found) == 50 * 4 * 8
    assert set(map(bytes, found)) == set(lines)


def test_headers_are_not_in_a_record() -> None:
    """L2: only what policies read, and never a credential."""
    one = record()
    one.request.headers = Headers([("authorization", "Bearer canary"), ("cookie", "canary")])
    assert "canary" not in str(written(one))


def test_records_of_envoy_are_numbered_and_hold_no_fragment() -> None:
    """A line that is none is counted as dropped, and leaves a gap."""
    kept, counts = Kept(), Counts()
    taker = ProxyRecords(kept, counts)
    lines = [b'{"by":"envoy","path":"/a#access_token=T"}', b'{"by":"en', b"[]", b'{"path":null}']
    for line in lines:
        taker.take(line + b"\n")
    kept.full = True
    taker.take(lines[0])
    first, second = map(orjson.loads, kept.lines)
    assert (first["seq"], first["path"], second["seq"]) == (1, "/a", 4)
    assert first["worker"] == f"envoy.{os.getpid()}"
    assert counts.counts["extproc_decision_records_total", ("dropped",)] == 3


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """What is lost is counted as that, and half a line takes no other one with it."""
    file = tmp_path / "records"
    writer = Writer(file)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, usual[1]))
    try:
        writer.put([b'{"n": 1}\n', b'{"n": 2}\n', b'{"n": 3}\n'])
        until(lambda: writer.failed == 2, "two are lost")
        writer.put([b'{"n": 4}\n'])
        until(lambda: writer.failed == 3, "and another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    writer.put([b'{"n": 5}\n'])
    writer.close()
    assert file.read_bytes() == b'{"n": 1}\n{"n": \n{"n": 5}\n'


def test_records_that_could_not_be_written_are_counted() -> None:
    """Each once, when the next are handed on."""
    kept, counts = Kept(), Counts()
    log = DecisionLog(0, kept, lambda: 0.0, counts)
    for failed in (0, 2, 2, 3):
        kept.failed = failed
        log.record(record())
        log.flush()
    name = "extproc_decision_records_total"
    assert counts.counts == {(name, ("written",)): 4, (name, ("failed",)): 3}
    of_envoy = Counts()
    ProxyRecords(kept, of_envoy).take(b'{"path": "/"}')
    assert of_envoy.counts == {(name, ("written",)): 1, (name, ("failed",)): 3}


def test_a_file_that_was_deleted_takes_no_records(tmp_path: Path) -> None:
    """What is written to it is lost, and counted as that, until there is one again."""
    path = tmp_path / "records"
    writer = Writer(path)
    writer.put([b"1\n"])
    until(lambda: path.read_bytes() == b"1\n", "it is written")
    path.unlink()
    path.mkdir()
    writer.put([b"2\n", b"3\n"])
    until(lambda: writer.failed == 2, "they couldn't be written")
    path.rmdir()
    writer.put([b"4\n"])
    until(path.exists, "it is there again")
    writer.close()
    assert (path.read_bytes(), writer.failed) == (b"4\n", 2)


def test_a_file_that_can_not_be_opened_anew(tmp_path: Path) -> None:
    """The one that was moved away takes records, and nobody else's descriptor is closed."""
    folder, moved = tmp_path / "logs", tmp_path / "old"
    folder.mkdir()
    writer = Writer(folder / "records")
    writer.put([b"1\n"])
    until(lambda: (folder / "records").read_bytes() == b"1\n", "it is written")
    folder.rename(moved)
    writer.put([b"2\n"])
    until(lambda: (moved / "records").read_bytes() == b"1\n2\n", "it is written to the old one")
    with (tmp_path / "somebodys").open("wb") as other:
        writer.put([b"3\n"])
        until(lambda: (moved / "records").read_bytes() == b"1\n2\n3\n", "as well")
        os.fstat(other.fileno())
        folder.mkdir()
        writer.put([b"4\n"])
        until((folder / "records").exists, "it is there again")
    writer.close()
    assert (folder / "records").read_bytes() == b"4\n"
