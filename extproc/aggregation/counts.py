"""How calls ended, counted: what adds to a counter is looked for once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.core.ports import Observer


class Counts:
    """The metric `extproc_calls_total`."""

    def __init__(self, metrics: Observer) -> None:
        self._metrics = metrics
        # As many as there are upstreams, and ways in which a call can end.
        self._known: dict[tuple[str, str], Callable[[int], object]] = {}

    def one(self, upstream: str, outcome: str) -> None:
        """Count one call."""
        labels = (upstream, outcome)
        count = self._known.get(labels)
        if count is None:
            count = self._known[labels] = self._metrics.counter("extproc_calls_total", labels)
        count(1)
