"""What is counted reaches the library, and what can't be counted is said where it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extproc.adapters.metric_files import RoomyDict
from extproc.adapters.metrics import COUNTERS, HISTOGRAMS, BatchedMetrics
from extproc.testing import Counts

PACKAGE = Path(__file__).parents[2] / "extproc"
WRONG: list[tuple[str, Any, int]] = [
    ("extproc_no_such_total", ("a",), 1),
    ("extproc_reloads_total", (), 1),
    ("extproc_reloads_total", ["ok"], 1),
    ("extproc_reloads_total", ("a", "b"), 1),
]


@pytest.mark.parametrize("observer", [BatchedMetrics, Counts])
@pytest.mark.parametrize(("metric", "labels", "by"), WRONG)
def test_what_cannot_be_counted(observer: type[Counts], metric: str, labels: Any, by: int) -> None:
    """A plugin is told in its own hook; the batch of all the others is not lost."""
    made = observer()
    with pytest.raises((ValueError, TypeError)):
        made.count(metric, labels, by)
    made.count("extproc_reloads_total", ("ok",))


def test_a_batch_arrives_whole() -> None:
    """Whatever was refused in between."""
    metrics = BatchedMetrics()
    for metric, labels, by in WRONG:
        with pytest.raises((ValueError, TypeError)):
            metrics.count(metric, labels, by)
    with pytest.raises(ValueError, match="only goes up"):
        metrics.count("extproc_reloads_total", ("ok",), -1)
    for metric in ("extproc_no_such_total", "extproc_reloads_total"):
        with pytest.raises(ValueError, match=metric):
            metrics.counter(metric, ())
    with pytest.raises(ValueError, match="labels"):
        metrics.timer("extproc_plugin_seconds", ("one",))
    metrics.count("extproc_plugin_events_total", ("tenancy", "unknown"), 2)
    metrics.flush()
    counter = metrics._counters["extproc_plugin_events_total"]
    assert counter.labels("tenancy", "unknown")._value.get() == 2


def test_everything_that_the_product_counts_is_declared() -> None:
    """By every name of a metric that stands in a call."""
    known = {metric.name for metric in (*COUNTERS, *HISTOGRAMS)}
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                first = node.args[0] if node.args else None
                counts = node.func.attr in {"count", "counter", "timer"}
                if counts and isinstance(first, ast.Constant):
                    used.add(first.value)
    names = {name for name in used if isinstance(name, str) and name.startswith("extproc_")}
    assert "extproc_introspections_total" in names
    assert names <= known


def _kept(file: Path) -> bool:
    """Say whether all of a file is on the disk."""
    stat = file.stat()
    return stat.st_blocks * 512 >= stat.st_size


def test_a_file_of_values_has_no_holes(tmp_path: Path) -> None:
    """To write into one while the disk is full would end the process."""
    file = tmp_path / "counter_1.db"
    values = RoomyDict(str(file))
    assert _kept(file)
    keys = [f"key-{number}-{'x' * 1000}" for number in range(200)]
    for number, key in enumerate(keys):
        values.write_value(key, number, 0.0)  # type: ignore[no-untyped-call]  # the library's
        assert _kept(file)
    known = {key: value for key, value, _ in values.read_all_values()}  # type: ignore[no-untyped-call]
    assert known == {key: number for number, key in enumerate(keys)}
    assert file.stat().st_size == 1 << 18
    values.close()  # type: ignore[no-untyped-call]


FULL = """
import resource, sys
from pathlib import Path
from extproc.adapters.metrics import BatchedMetrics, exposition, use_folder

folder = Path(sys.argv[1])
use_folder(folder)
metrics = BatchedMetrics()
usual = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), usual[1]))
for number in range(2000):
    metrics.count("extproc_plugin_events_total", (f"plugin-{number}", "seen"))
    metrics.timer("extproc_plugin_seconds", (f"plugin-{number}", "request"))(1.5)
metrics.flush()
exposition(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, usual)
metrics.count("extproc_plugin_events_total", ("plugin-0", "seen"), 2)
metrics.flush()
sys.stdout.buffer.write(exposition(folder))
"""


@pytest.mark.parametrize("room", [0, 100, 1 << 16])
def test_a_disk_that_is_full(tmp_path: Path, room: int) -> None:
    """What there was no room for is counted when there is, and nothing twice."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "metrics"), str(room)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    events = [line for line in told.splitlines() if line.startswith("extproc_plugin_events_total{")]
    counted = sorted(float(line.rpartition(" ")[2]) for line in events)
    assert counted == [1.0] * 1999 + [3.0]
    sums = [line for line in told.splitlines() if line.startswith("extproc_plugin_seconds_sum{")]
    assert [float(line.rpartition(" ")[2]) for line in sums] == [1.5] * 2000
