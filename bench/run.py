"""What a request costs in the service and in Envoy, beside the yardstick, in one run.

CPU is read from the kernel for every thread of every process, so what else the machine does
changes it little. Many short rounds are interleaved; ratios are between scenarios of one round, and
medians of all rounds are shown. Results go to results.json. Where there is a C compiler the floor
stands beside: a service in C that decodes nothing and answers with constant bytes (floor.c), behind
the same Envoy as the yardstick.
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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.measure import CONNECTIONS, Scenario, measured
from bench.processes import (
    answers,
    envoy_of,
    fetched,
    free_port,
    gateway_of,
    issuer,
    process,
    start_origin,
    until,
)
from bench.yardstick import constant_answer
from extproc.config.load import load as load_gateway
from extproc.core.verdict import ADDRESS_ATTRIBUTE, NAMESPACE, ROUTE_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).parent
_FLOOR = "floor (C)"
_POLL, _POLLING = ("--busy-poll", "2000"), "noop, polling"
_SAME = ", same Envoy"
_YARDSTICK = _HERE / "yardstick.json"
_DIRECT = b"GET /direct HTTP/1.1\r\nhost: bench\r\n\r\n"
_PLAIN = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n"
_NOOP = b"GET /noop HTTP/1.1\r\nhost: bench\r\n\r\n"


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--requests", type=int, default=1200)
    arguments.add_argument("--server", default="local", choices=("local", "grpcio"))
    arguments.add_argument("--output", type=Path, default=_HERE / "results.json")
    options = arguments.parse_args()
    alone = _alone(_behind_one_envoy, options) | _alone(_behind_our_own, options)
    with ExitStack() as stack:
        scenarios = _started(stack, options)
        for scenario in scenarios:
            measured(scenario, 200)  # warm: connections, caches, code
        for number in range(options.rounds):
            for scenario in scenarios:
                scenario.rounds.append(measured(scenario, scenario.requests))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    results = _summarised(scenarios, options) | {"one_client": _added(alone)}
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    _show(results)


def _alone(
    started: Callable[[ExitStack, argparse.Namespace], list[Scenario]], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return what each request of one client takes, p50 of each round in ms.

    Only what is compared runs meanwhile: with few cores, whatever else wakes now and then moves
    those that talk to each other apart, and a round takes half as long again.
    """
    alone: dict[str, list[float]] = {}
    with ExitStack() as stack:
        scenarios = started(stack, options)
        for scenario in scenarios:
            measured(scenario, 200)
        for number in range(options.rounds):
            for scenario in scenarios:
                round_ = measured(scenario, options.requests // 6, 1)
                alone.setdefault(scenario.name, []).append(round_["p50_ms"])
            print(f"round {number + 1} of {options.rounds}, one client", file=sys.stderr)
    return alone


def _added(alone: dict[str, list[float]]) -> dict[str, float]:
    """Return what the service adds to the time of a request, one client, medians in ms."""
    p50 = {name: statistics.median(times) for name, times in alone.items()}
    yardstick = p50["yardstick"] - p50["bare direct"]
    noop = p50["noop"] - p50["bare origin"]
    same = p50["noop, same Envoy"] - p50["bare direct"]
    polled = {}
    if _POLLING in p50:
        polling = p50[_POLLING] - p50["bare origin"]
        alike = p50[_POLLING + _SAME] - p50["bare direct"]
        polled = {
            "polling_added_ms": round(polling, 3),
            "polling_of_yardstick": round(polling / yardstick, 3),
            "polling_same_envoy_added_ms": round(alike, 3),
            "polling_same_envoy_of_yardstick": round(alike / yardstick, 3),
        }
    floor = {}
    if _FLOOR in p50:
        added = p50[_FLOOR] - p50["bare direct"]
        floor = {
            "floor_added_ms": round(added, 3),
            "floor_of_yardstick": round(added / yardstick, 3),
        }
    return (floor | polled) | {
        "yardstick_added_ms": round(yardstick, 3),
        "noop_added_ms": round(noop, 3),
        "of_yardstick": round(noop / yardstick, 3),
        "same_envoy_added_ms": round(same, 3),
        "same_envoy_of_yardstick": round(same / yardstick, 3),
    }


def _summarised(scenarios: list[Scenario], options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, dict[str, Any]] = {
        s.name: {
            name: round(statistics.median(r[name] for r in s.rounds), 3) for name in s.rounds[0]
        }
        for s in scenarios
    }
    rounds = {s.name: s.rounds for s in scenarios}
    for name, taken in rounds.items():
        figures[name]["of_yardstick"] = round(_of(taken, rounds["yardstick"], "service_us"), 3)
    rps = _of(rounds["noop"], rounds["yardstick, upstream"], "rps")
    return {
        "command": "make bench",
        "server": options.server,
        "rounds": options.rounds,
        "connections": CONNECTIONS,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "scenarios": figures,
        "noop_rps_of_yardstick": round(rps, 2),
    }


def _of(some: list[dict[str, float]], others: list[dict[str, float]], name: str) -> float:
    """Return the median of what one is of the other in the same round."""
    pairs = zip(some, others, strict=True)
    return statistics.median([one[name] / other[name] for one, other in pairs])


def _show(results: dict[str, Any]) -> None:
    table = Table(
        title=f"medians of {results['rounds']} interleaved rounds, "
        f"{results['connections']} connections"
    )
    table.add_column("scenario")
    for name in ("requests", "service µs", "of yardstick", "Envoy µs", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for name, f in results["scenarios"].items():
        table.add_row(
            name,
            f"{f['requests']:.0f}",
            f"{f['service_us']:.0f}",
            f"{f['of_yardstick']:.2f}",
            f"{f['envoy_us']:.0f}",
            f"{f['p50_ms']:.2f}",
            f"{f['p99_ms']:.2f}",
        )
    console = Console(width=100)
    console.print(table)
    console.print(
        f"requests per second on the no-op route: {results['noop_rps_of_yardstick']:.2f} of the "
        "yardstick's with an upstream"
    )
    one = results["one_client"]
    console.print(
        f"one client, p50: the yardstick adds {one['yardstick_added_ms']:.2f} ms; the no-op behind "
        f"the same Envoy {one['same_envoy_added_ms']:.2f} ms ({one['same_envoy_of_yardstick']:.2f} "
        f"of it), behind its own, with an upstream, {one['noop_added_ms']:.2f} ms "
        f"({one['of_yardstick']:.2f})"
    )
    if "polling_added_ms" in one:
        console.print(
            f"with `{' '.join(_POLL)}` it adds {one['polling_same_envoy_added_ms']:.2f} ms "
            f"({one['polling_same_envoy_of_yardstick']:.2f}) and {one['polling_added_ms']:.2f} ms "
            f"({one['polling_of_yardstick']:.2f})"
        )
    if "floor_added_ms" in one:
        console.print(
            f"a service in C that decodes nothing adds {one['floor_added_ms']:.2f} ms "
            f"({one['floor_of_yardstick']:.2f}): less than that none can"
        )


def _behind_one_envoy(stack: ExitStack, options: argparse.Namespace) -> list[Scenario]:
    """Start what differs in the service alone: none, the floor, the yardstick, ours."""
    requests = options.requests
    places, _ = _places(stack, options)
    port, envoy = _bare(stack, places.folder, places.origin)
    return [
        Scenario("bare direct", port, _DIRECT, requests, [], envoy),
        *_floor(stack, places.folder, requests),
        *_yardstick(stack, places, requests)[:1],
        *_noops_served(stack, places, requests),
    ]


def _behind_our_own(stack: ExitStack, options: argparse.Namespace) -> list[Scenario]:
    """Start a gateway with its Envoy and an upstream, and an Envoy without a service."""
    places, _ = _places(stack, options)
    port, envoy = _bare(stack, places.folder, places.origin)
    bare = Scenario("bare origin", port, _PLAIN, options.requests, [], envoy)
    return [bare, *_noops(stack, places, options.requests)]


def _places(stack: ExitStack, options: argparse.Namespace) -> tuple[_Places, str]:
    """Start what every service needs; return where it is, and a token of the issuer."""
    folder = Path(tempfile.mkdtemp(prefix="xb-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    token, keys = issuer(stack)
    return _Places(folder, start_origin(stack), keys, options.server), token


def _started(stack: ExitStack, options: argparse.Namespace) -> list[Scenario]:
    requests = options.requests
    places, token = _places(stack, options)
    port, envoy, service = _gateway(stack, "gateway.yaml", places)
    bearer = f"authorization: Bearer {token}\r\n"

    def ours(name: str, extra: str = "", count: int = requests) -> Scenario:
        request = f"GET /{name} HTTP/1.1\r\nhost: bench\r\n{extra}\r\n".encode()
        return Scenario(name, port, request, count, service, envoy)

    return [
        *_floor(stack, places.folder, requests),
        *_yardstick(stack, places, requests),
        *_noops_served(stack, places, requests),
        _served(stack, places, "jwt", bearer, requests),
        *_noops(stack, places, requests),
        ours("jwt", bearer),
        ours("cache"),
        ours("aggregate", count=max(requests // 4, 1)),
    ]


def _ways(places: _Places) -> dict[str, tuple[str, ...]]:
    """Return how a no-op is served, with the options for that: the library's server never polls."""
    return {"noop": ()} | ({_POLLING: _POLL} if places.server == "local" else {})


def _noops(stack: ExitStack, places: _Places, requests: int) -> list[Scenario]:
    """Return no-op exchanges behind our own Envoy."""
    found = []
    for name, more in _ways(places).items():
        port, envoy, service = _gateway(stack, "noop.yaml", places, *more)
        found.append(Scenario(name, port, _NOOP, requests, service, envoy))
    return found


def _noops_served(stack: ExitStack, places: _Places, requests: int) -> list[Scenario]:
    """Return no-op exchanges behind the yardstick's Envoy."""
    ways = _ways(places).values()
    return [_served(stack, places, "noop", "", requests, *more) for more in ways]


def _gateway(
    stack: ExitStack, file: str, places: _Places, *more: str
) -> tuple[int, int, list[int]]:
    """Return the port, Envoy's process id, and those of supervisor and worker."""
    environment = {"BENCH_ORIGIN": str(places.origin), "BENCH_KEYS": str(places.keys)}
    return gateway_of(stack, _HERE / file, environment, places.server, *more)


def _yardstick(stack: ExitStack, places: _Places, requests: int) -> list[Scenario]:
    """Return the yardstick's exchanges: answered by its Envoy itself, and by an upstream."""
    socket = f"{places.folder}/y"
    service = process(stack, [sys.executable, str(_HERE / "yardstick.py"), f"unix:{socket}"])
    port, envoy = envoy_of(stack, _config(places.origin), socket)
    until(lambda: answers(port, "/"), "the yardstick")
    return [
        Scenario("yardstick", port, _DIRECT, requests, [service.pid], envoy),
        Scenario("yardstick, upstream", port, _PLAIN, requests, [service.pid], envoy),
    ]


@dataclass(frozen=True, slots=True)
class _Places:
    """What the gateway files of the benchmark are filled in with."""

    folder: Path
    origin: int
    keys: int
    server: str

    def environment(self, port: int, admin: int) -> dict[str, str]:
        """Return the variables."""
        numbers = {"PORT": port, "ADMIN": admin, "ORIGIN": self.origin, "KEYS": self.keys}
        return dict(os.environ) | {f"BENCH_{name}": str(n) for name, n in numbers.items()}


def _served(
    stack: ExitStack, places: _Places, name: str, extra: str, requests: int, *more: str
) -> Scenario:
    """Return an exchange behind the yardstick's Envoy, where the service alone differs."""
    file = _HERE / ("noop.yaml" if name == "noop" else "gateway.yaml")
    admin, title = free_port(), _POLLING if more else name
    socket = places.folder / title.replace(", ", "-")
    environment = places.environment(1, admin)
    command = [sys.executable, "-m", "extproc", "serve", str(file), "--server", places.server]
    service = process(
        stack,
        [*command, "--listen", f"unix:{socket}", *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    key = f"{name}@{load_gateway(file, environment).version}"
    config = json.loads(_YARDSTICK.read_text())
    manager = _manager(config)
    filters = manager["http_filters"]
    filters[0]["typed_config"]["request_attributes"] = [ROUTE_ATTRIBUTE, ADDRESS_ATTRIBUTE]
    [route] = manager["route_config"]["virtual_hosts"][0]["routes"]
    route["metadata"] = {"filter_metadata": {NAMESPACE: {"id": key}}}
    port, envoy = envoy_of(stack, config, str(socket))
    until(lambda: answers(admin, "/readyz"), f"the served {title}")
    workers = [worker["pid"] for worker in json.loads(fetched(admin, "/status"))["workers"]]
    request = f"GET /{name} HTTP/1.1\r\nhost: bench\r\n{extra}\r\n".encode()
    pids = [service.pid, *workers]
    return Scenario(title + _SAME, port, request, requests, pids, envoy)


def _floor(stack: ExitStack, folder: Path, requests: int) -> list[Scenario]:
    """Return the service in C behind the yardstick's Envoy, if it can be compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        return []
    program = folder / "floor"
    subprocess.run([compiler, "-O2", "-o", program, _HERE / "floor.c"], check=True)
    service = process(stack, [str(program), f"{folder}/f", constant_answer().hex()])
    port, envoy = envoy_of(stack, json.loads(_YARDSTICK.read_text()), f"{folder}/f")
    until(lambda: answers(port, "/"), "the floor")
    direct = b"GET /direct HTTP/1.1\r\nhost: bench\r\n\r\n"
    return [Scenario(_FLOOR, port, direct, requests, [service.pid], envoy)]


def _config(origin: int) -> dict[str, Any]:
    """Return the yardstick's Envoy: `/direct` is answered by itself, all else by the origin."""
    config: dict[str, Any] = json.loads(_YARDSTICK.read_text())
    host = _manager(config)["route_config"]["virtual_hosts"][0]
    host["routes"][0]["match"] = {"path": "/direct"}
    host["routes"].append({"match": {"prefix": "/"}, "route": {"cluster": "origin"}})
    place = {"socket_address": {"address": "127.0.0.1", "port_value": origin}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": place}}]}]
    assignment = {"cluster_name": "origin", "endpoints": endpoints}
    cluster = {"name": "origin", "type": "STATIC", "load_assignment": assignment}
    config["static_resources"]["clusters"].append(cluster)
    return config


def _bare(stack: ExitStack, folder: Path, origin: int) -> tuple[int, int]:
    """Return the port of the same Envoy without a service."""
    config = _config(origin)
    del _manager(config)["http_filters"][0]
    del config["static_resources"]["clusters"][0]
    return envoy_of(stack, config, f"{folder}/bare")


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    """Return the connection manager of a configuration."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    manager: dict[str, Any] = chain["filters"][0]["typed_config"]
    return manager


if __name__ == "__main__":
    main()
