"""What is counted reaches the library, and what can't be counted is said where it is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

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
