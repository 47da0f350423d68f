"""Metrics: counted in plain numbers on the way, handed to `prometheus_client` in batches.

Each worker writes to memory-mapped files (the library's multi-process mode), which the
supervisor adds up; so a worker that dies takes no counts with it but those since its last
batch. The mode is chosen by an environment variable before the library is imported.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is called, what it means, and its labels in order."""

    name: str
    help: str
    labels: tuple[str, ...]


COUNTERS = (
    Metric("extproc_exchanges_total", "Exchanges by how they ended.", ("route", "decision")),
    Metric(
        "extproc_plugin_failures_total",
        "Hooks that raised, hung, blocked or were refused.",
        ("plugin", "phase", "reason"),
    ),
    Metric(
        "extproc_decisions_total",
        "What policies decided, and what authentication refused.",
        ("route", "decision", "reason"),
    ),
    Metric(
        "extproc_candidate_differences_total",
        "Decisions that candidate policies would have made otherwise.",
        ("route", "outcome"),
    ),
    Metric("extproc_decision_records_total", "Decision records, written or dropped.", ("outcome",)),
    Metric("extproc_cache_total", "Lookups and stores.", ("route", "outcome")),
    Metric("extproc_store_answers_total", "What came of asking Redis.", ("outcome",)),
    Metric("extproc_calls_total", "Calls of aggregations.", ("upstream", "outcome")),
    Metric("extproc_key_fetches_total", "Fetches of key sets.", ("outcome",)),
    Metric(
        "extproc_access_log_entries_total",
        "Requests in Envoy's access log stream, by class of status.",
        ("route", "outcome"),
    ),
    Metric("extproc_introspections_total", "Tokens asked about (RFC 7662).", ("outcome",)),
    Metric("extproc_plugin_events_total", "What plugins count.", ("plugin", "outcome")),
    Metric("extproc_reloads_total", "Loads of the gateway file.", ("outcome",)),
)
HISTOGRAMS = (Metric("extproc_plugin_seconds", "Time in one hook.", ("plugin", "phase")),)
BUCKETS = (0.00002, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_TRIES = 5
_LABELS = {metric.name: len(metric.labels) for metric in (*COUNTERS, *HISTOGRAMS)}


class BatchedMetrics:
    """An observer that costs a dictionary lookup; call `flush` now and then."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, tuple[str, ...]], int] = {}
        self._ticks: dict[tuple[str, tuple[str, ...]], list[int]] = {}  # since the last flush
        self._times: dict[tuple[str, tuple[str, ...]], list[float]] = {}  # since the last flush
        self._counters, self._histograms = _registered()

    def count(self, metric: str, labels: tuple[str, ...], by: int = 1) -> None:
        """Add to a counter.

        Raises:
            ValueError: there is no such counter, it has other labels, or it would go down.
        """
        key = (metric, labels)
        known = self._counts.get(key)
        if known is None:
            known = declared(metric, labels)
        if by < 0:
            raise ValueError(f"{metric} only goes up")
        self._counts[key] = known + by

    def counter(self, metric: str, labels: tuple[str, ...]) -> Callable[[int], object]:
        """Return what adds to a counter: summed up for a whole batch.

        Raises:
            ValueError: there is no such counter, or it has other labels.
        """
        declared(metric, labels)
        return self._ticks.setdefault((metric, labels), []).append

    def timer(self, metric: str, labels: tuple[str, ...]) -> Callable[[float], object]:
        """Return what adds one duration: the buckets are found for a whole batch.

        Raises:
            ValueError: there is no such histogram, or it has other labels.
        """
        declared(metric, labels)
        return self._times.setdefault((metric, labels), []).append

    def flush(self) -> None:
        """Hand everything to the library; what there is no room for is handed on later."""
        with suppress(OSError):
            self._hand_on()

    def _hand_on(self) -> None:
        while self._counts:
            (name, labels), number = next(iter(self._counts.items()))
            self._counters[name].labels(*labels).inc(number)
            del self._counts[name, labels]
        for (name, labels), ticks in self._ticks.items():
            if ticks:
                self._counters[name].labels(*labels).inc(sum(ticks))
                ticks.clear()
        for (name, labels), times in self._times.items():
            if times:
                _add(self._histograms[name].labels(*labels), sorted(times))
                times.clear()


def declared(metric: str, labels: tuple[str, ...]) -> int:
    """Return 0 where a metric has that many labels; what isn't declared would fail a whole batch.

    Raises:
        ValueError: it hasn't, or there is none.
    """
    number = _LABELS.get(metric)
    if number is None:
        raise ValueError(
            f"no metric is called {metric}; plugins count in extproc_plugin_events_total"
        )
    if not isinstance(labels, tuple) or len(labels) != number:
        raise ValueError(f"{metric} has {number} labels, not {labels!r}")
    return 0


def _registered() -> tuple[dict[str, Any], dict[str, Any]]:
    from prometheus_client import CollectorRegistry, Counter, Histogram  # noqa: PLC0415 - see above

    from extproc.adapters import metric_files  # noqa: PLC0415 - as above

    metric_files.use()
    registry = CollectorRegistry()
    counters = {m.name: Counter(m.name, m.help, m.labels, registry=registry) for m in COUNTERS}
    histograms = {
        m.name: Histogram(m.name, m.help, m.labels, registry=registry, buckets=BUCKETS)
        for m in HISTOGRAMS
    }
    return counters, histograms


def _add(histogram: Any, times: list[float]) -> None:
    """Add a batch to a histogram: its sum and its buckets, which `observe` adds one by one."""
    histogram._sum.inc(sum(times))  # noqa: SLF001 - the library has no call for a batch
    before = 0
    bounds = (*BUCKETS, inf)
    for bucket, bound in zip(histogram._buckets, bounds, strict=True):  # noqa: SLF001 - as above
        below = bisect_right(times, bound)
        if below > before:
            bucket.inc(below - before)
        before = below


def use_folder(folder: Path) -> None:
    """Choose where this process and those it starts keep metrics; before anything counts."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER_VARIABLE] = str(folder)


def exposition(folder: Path) -> bytes:
    """Return every worker's metrics added up, in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - see above
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - as above

    tries = _TRIES
    while True:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
        try:
            return generate_latest(registry)
        except (RuntimeError, ValueError, KeyError, struct.error):
            # A worker's file was read in the middle of a write.
            tries -= 1
            if tries == 0:
                raise
