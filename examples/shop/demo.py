"""The shop behind a real Envoy: started, explained, and with `--check` tried out."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from examples.shop.processes import DEMO_PORTS, NotStarted, Shop
from examples.shop.tries import TRIES, Answer, Try, fetch

_GATEWAY = Path(__file__).with_name("gateway.yaml")
_READY_WITHIN = 60.0
_ASK_AGAIN = 0.1
_INTERRUPTED = 130  # as shells say it


def main() -> int:
    """Run the demonstration.

    Returns:
        0 if everything was right.
    """
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="try everything, then stop")
    check = arguments.parse_args().check
    ports = None if check else DEMO_PORTS
    listen, admin = (
        (_free_address(), _free_address()) if check else ("127.0.0.1:8080", "127.0.0.1:9900")
    )
    _say("starting the shop's upstreams, the service and Envoy ...")
    try:
        with Shop(ports) as shop, tempfile.TemporaryFile("w+") as log:
            environment = os.environ | shop.environment()
            environment |= {"SHOP_LISTEN": listen, "SHOP_ADMIN": admin}
            issuer = f"http://127.0.0.1:{shop.ports['issuer']}"
            return _with_gateway(environment, log, f"http://{listen}", admin, issuer, check=check)
    except NotStarted as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _with_gateway(
    environment: dict[str, str],
    log: IO[str],
    gateway: str,
    admin: str,
    issuer: str,
    *,
    check: bool,
) -> int:
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "extproc", "run", str(_GATEWAY)],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        if not _ready(process, admin):
            log.seek(0)
            sys.stderr.write(f"the gateway didn't start:\n{log.read()}")
            return 1
        return _tried(gateway, issuer) if check else _explained(process, gateway, admin, issuer)
    finally:
        process.terminate()
        process.wait(20)


def _ready(process: subprocess.Popen[bytes], admin: str) -> bool:
    ends = time.monotonic() + _READY_WITHIN
    while time.monotonic() < ends and process.poll() is None:
        try:
            if fetch(f"http://{admin}/readyz").status == 200:
                return True
        except OSError:
            pass
        time.sleep(_ASK_AGAIN)
    return False


def _tried(gateway: str, issuer: str) -> int:
    wrong = 0
    for number, thing in enumerate(TRIES, 1):
        answer, right = _one(thing, gateway, issuer)
        wrong += not right
        said = f"{answer.status}, {_shown(answer)}" if answer is not None else "no answer"
        _say(f"{'ok   ' if right else 'WRONG'} {number:2}. {thing.title}: {said}")
    _say(f"{len(TRIES) - wrong} of {len(TRIES)} right")
    return 1 if wrong else 0


def _one(thing: Try, gateway: str, issuer: str) -> tuple[Answer | None, bool]:
    try:
        answer = thing.run(gateway, issuer)
    except OSError:
        return None, False
    try:
        return answer, thing.right(answer)
    except (KeyError, TypeError, json.JSONDecodeError):
        return answer, False


def _shown(answer: Answer) -> str:
    text = answer.body.decode(errors="replace").replace("\n", " ")
    return text if len(text) <= 100 else f"{text[:97]}..."


def _explained(process: subprocess.Popen[bytes], gateway: str, admin: str, issuer: str) -> int:
    _say(f"The shop is open at {gateway} (admin at http://{admin}/status). Try:\n")
    for thing in TRIES:
        _say(f"# {thing.title}\n{thing.command(gateway, issuer)}\n")
    _say(f"The gateway file is {_GATEWAY}; edit it and it is reloaded. Ctrl-C stops.")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.terminate())
    status = process.wait()
    _say("stopped")
    return 0 if status == 0 else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    sys.exit(main())
