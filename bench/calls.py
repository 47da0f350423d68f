"""What a composed answer costs beside the same one written by hand, and how long it takes.

CPU of the service per answer of five calls: the gateway's (supervisor and worker, Envoy's beside),
an asyncio service (aiohttp as server and client), and a Node one (fastify and undici), in
interleaved rounds of one run. Then the time that an answer takes where upstreams take 50 ms, and
how long after its deadline one comes that waits for an upstream that hangs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Scenario, measured
from bench.processes import announced, gateway_of, process

_HERE = Path(__file__).parent / "compose"
_RESULTS = Path(__file__).with_name("calls.json")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "extproc-bench"
_SLOW = "0.05"
_SLOWEST_MS = 50.0
_STUCK = "60"
_DEADLINE_MS = 300.0
_PAST_DEADLINE = {  # by route, which status it has then, and what that is
    "optional": (200, "an answer without an optional part"),
    "required": (504, "an error for a required part"),
}
_TIMES = 20


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--requests", type=int, default=1500)
    arguments.add_argument("--output", type=Path, default=_RESULTS)
    options = arguments.parse_args()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="xb-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        origin = _port_of(stack, [sys.executable, str(_HERE / "origin.py"), "0"])
        slow = _port_of(stack, [sys.executable, str(_HERE / "origin.py"), _SLOW])
        stuck = _port_of(stack, [sys.executable, str(_HERE / "origin.py"), _STUCK])
        ports = {"BENCH_ORIGIN": origin, "BENCH_SLOW": slow, "BENCH_STUCK": stuck}
        place = gateway_of(
            stack, _HERE / "gateway.yaml", {name: str(port) for name, port in ports.items()}
        )
        scenarios, without = _scenarios(stack, place, origin, options.requests)
        for scenario in scenarios:
            measured(scenario, 300)
        for number in range(options.rounds):
            for scenario in scenarios:
                scenario.rounds.append(measured(scenario, scenario.requests))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        times = {name: _time_of(place, name) for name in ("parallel", "chain")}
        late = {name: _past_deadline(place[0], name) for name in _PAST_DEADLINE}
    results = _summarised(scenarios, times, options.rounds) | {"past_deadline_ms": late}
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    _show(results, without)


def _scenarios(
    stack: ExitStack, place: tuple[int, int, list[int]], origin: int, requests: int
) -> tuple[list[Scenario], str]:
    request = b"GET /five?user=7 HTTP/1.1\r\nhost: bench\r\nx-request-id: 1\r\n\r\n"
    port, envoy, service = place
    scenarios = [Scenario("gateway", port, request, requests, service, envoy)]
    command = [sys.executable, str(_HERE / "by_hand.py"), str(origin)]
    by_hand = process(stack, command, stdout=subprocess.PIPE)
    scenarios.append(
        Scenario("aiohttp", announced(by_hand), request, requests, [by_hand.pid], by_hand.pid)
    )
    without = _install()
    if not without:
        command = ["node", str(_HERE / "by_hand.mjs"), str(origin), str(_CACHE)]
        node = process(stack, command, stdout=subprocess.PIPE)
        scenarios.append(Scenario("node", announced(node), request, requests, [node.pid], node.pid))
    return scenarios, without


def _install() -> str:
    """Install what the Node service needs; return why it can't be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm aren't installed"
    if not (_CACHE / "node_modules" / "fastify").is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "fastify", "undici"]
        done = subprocess.run(command, cwd=_CACHE, check=False, capture_output=True, text=True)
        if done.returncode:
            return f"npm install failed: {done.stderr.strip()[-200:]}"
    return ""


def _port_of(stack: ExitStack, command: list[str]) -> int:
    return announced(process(stack, command, stdout=subprocess.PIPE))


def _time_of(place: tuple[int, int, list[int]], name: str) -> float:
    """Return how long an answer takes, one client, p50 in ms."""
    port, envoy, service = place
    request = f"GET /{name} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
    scenario = Scenario(name, port, request, 40, service, envoy)
    measured(scenario, 3, 1)
    return measured(scenario, 40, 1)["p50_ms"]


def _past_deadline(port: int, name: str) -> dict[str, float]:
    """Return how long after the deadline an answer comes, median and worst in ms."""
    taken = []
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(_TIMES):
        began = time.perf_counter()
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - began) * 1e3 - _DEADLINE_MS)
        if answer.status != _PAST_DEADLINE[name][0]:
            sys.exit(f"{name}: {answer.status}")
    connection.close()
    return {"median": round(statistics.median(taken), 1), "worst": round(max(taken), 1)}


def _summarised(scenarios: list[Scenario], times: dict[str, float], rounds: int) -> dict[str, Any]:
    figures: dict[str, dict[str, float]] = {
        s.name: {n: round(statistics.median(r[n] for r in s.rounds), 3) for n in s.rounds[0]}
        for s in scenarios
    }
    ours = [r["service_us"] for r in scenarios[0].rounds]
    for scenario in scenarios[1:]:
        ratios = [a / r["service_us"] for a, r in zip(ours, scenario.rounds, strict=True)]
        figures["gateway"][f"of_{scenario.name}"] = round(statistics.median(ratios), 3)
    return {
        "command": "make bench",
        "rounds": rounds,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "scenarios": figures,
        "added_ms": {
            "parallel": round(times["parallel"] - _SLOWEST_MS, 2),
            "chain": round(times["chain"] - 3 * _SLOWEST_MS, 2),
        },
    }


def _show(results: dict[str, Any], without: str) -> None:
    table = Table(title=f"one answer of five calls, medians of {results['rounds']} rounds")
    table.add_column("service")
    for name in ("service µs", "Envoy µs", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for name, f in results["scenarios"].items():
        envoy = f"{f['envoy_us']:.0f}" if name == "gateway" else "-"
        table.add_row(
            name, f"{f['service_us']:.0f}", envoy, f"{f['p50_ms']:.2f}", f"{f['p99_ms']:.2f}"
        )
    console = Console(width=100)
    console.print(table)
    ours = results["scenarios"]["gateway"]
    beside = [f"{ours[k]:.2f} of {k[3:]}" for k in ours if k.startswith("of_")]
    console.print(f"the gateway's service costs {' and '.join(beside)}")
    if without:
        console.print(f"no Node service: {without}")
    for name, past in results["past_deadline_ms"].items():
        console.print(
            f"{_PAST_DEADLINE[name][1]} that hangs comes {past['median']} ms after its deadline, "
            f"{past['worst']} ms at worst of {_TIMES}"
        )
    added = results["added_ms"]
    console.print(
        f"five parallel upstreams of 50 ms: + {added['parallel']} ms; "
        f"a chain of three: + {added['chain']} ms (p50, one client)"
    )


if __name__ == "__main__":
    main()
