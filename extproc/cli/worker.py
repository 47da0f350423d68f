"""One worker process; started by the supervisor, not by people."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from extproc.host.worker import WorkerOptions, main


def _options() -> WorkerOptions:
    parser = argparse.ArgumentParser(prog="extproc.cli.worker", description=__doc__)
    parser.add_argument("gateways", type=Path, nargs="+", metavar="GATEWAY")
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--egress", required=True)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--control", type=int)
    parser.add_argument("--server", choices=("local", "grpcio"), default="local")
    parser.add_argument("--decisions", type=Path)
    parser.add_argument("--revocations", type=Path)
    parser.add_argument("--threaded", action="append", default=[])
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--private-key", type=Path)
    parser.add_argument("--client-ca", type=Path)
    parser.add_argument("--busy-poll", type=int, default=0)
    values = vars(parser.parse_args())
    several = {"gateways": tuple(values["gateways"]), "threaded": frozenset(values["threaded"])}
    return WorkerOptions(**values | several)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main(_options()))
        except Exception as error:  # noqa: BLE001 - a message for the supervisor's log
            sys.exit(f"worker: {type(error).__name__}: {error}")
