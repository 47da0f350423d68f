"""What many API keys and policies cost: to load, and for each request.

    python -m bench.scale [--keys 100000] [--policies 1000]

Loads two gateway files, a small one and a large one, and feeds a worker of each the same exchanges
in turns: an API key, a policy, a decision record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from bench.micro import Driven, message
from extproc.adapters.metrics import use_folder
from extproc.authentication import api_keys
from extproc.config.build import assemble
from extproc.config.load import load
from extproc.host.worker import Worker, WorkerOptions

_ROUNDS = 9
_SECRET, _SALT = "s" * 43, "ab" * 16
_HEAD = """version: 1
listener: {address: "127.0.0.1:1"}
admin: {address: "127.0.0.1:2"}
decisions: {file: records.jsonl}
upstreams: {origin: {endpoints: ["http://127.0.0.1:3"]}}
authentication: {keys: {api_key: {file: keys.jsonl}}}
policies: policies
routes:
  - {name: keys, match: {path: /keys}, upstream: origin, authentication: keys, authorization: p0}
"""


def written(folder: Path, keys: int, policies: int) -> Path:
    """Write a gateway file with so many keys and policies; return it."""
    (folder / "policies").mkdir(parents=True)
    digest = api_keys.digest(_SECRET, _SALT)
    with (folder / "keys.jsonl").open("w") as lines:
        for number in range(keys):
            entry = {"id": f"k{number}", "hash": digest, "scopes": ["read"]}
            lines.write(json.dumps(entry) + "\n")
    rules = [
        f"""  p{number}:
    rules:
      - {{name: reader, allow: '"read" in principal.scopes && request.method == "GET"'}}
      - {{name: area, deny: 'request.path.startsWith("/closed/{number}/")'}}
"""
        for number in range(policies)
    ]
    (folder / "policies" / "all.yaml").write_text("policies:\n" + "".join(rules))
    file = folder / "gateway.yaml"
    file.write_text(_HEAD)
    return file


async def _driven(file: Path) -> tuple[Driven, float]:
    began = time.perf_counter()
    assemble(load(file, os.environ))
    took = time.perf_counter() - began
    records = file.with_name("records.jsonl")
    worker = Worker(WorkerOptions(0, (file,), "unix:/none", "127.0.0.1:1", decisions=records))
    version = await worker.load(file)
    key = {"x-api-key": api_keys.written("k7", _SECRET)}
    return Driven(worker, message("/keys", f"keys@{version}", key)), took


async def _main(keys: int, policies: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        use_folder(Path(folder) / "metrics")
        small, small_took = await _driven(written(Path(folder) / "small", 10, 1))
        large, large_took = await _driven(written(Path(folder) / "large", keys, policies))
        costs = [(small.cost(), large.cost()) for _ in range(_ROUNDS)]
        one, other = (statistics.median(column) for column in zip(*costs, strict=True))
        print(f"10 keys, 1 policy: loaded in {small_took:.2f} s, {one:.1f} µs for each request")
        print(
            f"{keys} keys, {policies} policies: loaded in {large_took:.2f} s, {other:.1f} µs "
            f"({other / one:.2f} of the small one)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--policies", type=int, default=1_000)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options.keys, options.policies))
