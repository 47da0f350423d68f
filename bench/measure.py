"""One thing to measure, and one round of it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.load import Taken, load

CONNECTIONS = 32


@dataclass(slots=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: in the table.
        port: where to send.
        request: what to send.
        requests: how many in each round.
        service: process ids that decide.
        envoy: process id.
    """

    name: str
    port: int
    request: bytes
    requests: int
    service: list[int]
    envoy: int
    rounds: list[dict[str, float]] = field(default_factory=list)


def cpu(pids: list[int]) -> float:
    """Return the CPU time of processes, all threads, seconds."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def measured(scenario: Scenario, requests: int, connections: int = CONNECTIONS) -> dict[str, float]:
    """Run one round of a scenario."""
    service, envoy = cpu(scenario.service), cpu([scenario.envoy])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken: Taken = runner.run(load(scenario.port, scenario.request, requests, connections))
    if taken.wrong:
        sys.exit(f"{scenario.name}: {taken.wrong} of {taken.requests} answers were no 200")
    return {
        "requests": taken.requests,
        "service_us": (cpu(scenario.service) - service) / taken.requests * 1e6,
        "envoy_us": (cpu([scenario.envoy]) - envoy) / taken.requests * 1e6,
        "p50_ms": taken.percentile(0.5) * 1e3,
        "p99_ms": taken.percentile(0.99) * 1e3,
        "rps": taken.requests / taken.seconds,
    }
