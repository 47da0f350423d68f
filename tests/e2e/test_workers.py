"""Workers under load: killed, stuck, replaced."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
import pytest

from extproc.adapters.admin import token_file
from tests.support.bad_services import bad_service
from tests.support.client import ask
from tests.support.load import during
from tests.support.mutants import without_health
from tests.support.places import free_port, short_folder
from tests.support.processes import (
    ROOT,
    children,
    end,
    envoy,
    gateway,
    head,
    printed_envoy,
    service,
    start_run,
)
from tests.support.waiting import until

PLAIN = """
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes:
  - {{name: any, match: {{path: /*}}, upstream: echo}}
"""


def test_workers_import_nothing_from_where_the_command_was_given(echo: int) -> None:
    """As the command itself doesn't: a file there may have the name of one of Python's modules."""
    with short_folder() as folder:
        port, admin = free_port(), free_port()
        file, log = folder / "gateway.yaml", folder / "log"
        file.write_text(head(port, admin) + PLAIN.format(echo=echo))
        (folder / "json.py").write_text("raise RuntimeError('imported')\n")
        with log.open("wb") as output:
            process = subprocess.Popen(  # -P: as the installed script, which has no folder there
                [sys.executable, "-P", "-m", "extproc", "run", str(file)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                cwd=folder,
            )
        try:

            def serves() -> bool:
                assert process.poll() is None, log.read_text()
                return ask(admin, "/readyz").status == 200

            until(serves, "the gateway serves", 40)
        finally:
            end(process)


def test_a_killed_worker_loses_only_what_it_held(echo: int) -> None:
    """With two workers, `kill -9` of one fails no request but those it was holding."""
    with gateway(PLAIN.format(echo=echo), workers=2) as running:

        def kill_one() -> None:
            # For Envoy too: with the other one not yet known, every request would be 503.
            until(lambda: running.status()["envoy"]["healthy_workers"] == 2, "both serve")
            victim = running.workers()[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(set(running.workers()) - {victim}) == 2, "it is replaced")

        result = asyncio.run(during(f"http://127.0.0.1:{running.port}/x", kill_one, loops=8))
        said = [line for line in running.said().splitlines() if '"level"' in line]
    failed = sum(result.statuses.values()) - result.statuses[200]
    assert result.statuses[200] > 200
    # Each of the eight loops has at most one request in a worker's hands.
    if failed > 8:
        pytest.fail("\n".join([str(result.statuses), *said]), pytrace=False)


@pytest.mark.parametrize("begun", [False, True])
def test_what_no_worker_has_begun_goes_to_another(echo: int, *, begun: bool) -> None:
    """And what one has begun, which may have acted, isn't judged a second time."""
    judged = 0

    async def fails(context: Any, _data: bytes) -> bool:
        nonlocal judged
        judged += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return False

    with short_folder() as folder, ExitStack() as stack:
        port, file = free_port(), folder / "gateway.yaml"
        file.write_text(head(port, free_port()) + PLAIN.format(echo=echo))
        places = [f"unix:{folder}/{name}" for name in ("one", "gone")]
        options = [part for place in places for part in ("--service", place)]
        ports = ["--egress", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"]
        config = without_health(printed_envoy(file, *options, *ports))
        stack.enter_context(service(file, places[0]))
        if begun:
            stack.enter_context(bad_service(places[1], fails))
        stack.enter_context(envoy(config, port))
        before = judged  # Envoy was asked whether it serves
        statuses = Counter(ask(port, "/x").status for _ in range(40))
    assert statuses[200] + statuses[503] == 40
    assert statuses[503] == judged - before
    assert bool(statuses[503]) is begun


def test_a_paused_worker_is_replaced(echo: int) -> None:
    """A worker that doesn't answer for two seconds is killed, and another takes its place."""
    with gateway(PLAIN.format(echo=echo)) as running:
        victim = running.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        until(lambda: running.workers() not in ([], [victim]), "it is replaced", 20)
        assert until(lambda: running.ask("/x").status == 200, "requests are answered")


def test_nothing_is_left_behind(echo: int) -> None:
    """Killed hard, the supervisor takes Envoy and workers with it."""
    with gateway(PLAIN.format(echo=echo)) as running:
        started = children(running.process.pid)
        assert len(started) >= 2
        running.process.kill()
        running.process.wait()
        until(lambda: not any(map(_runs, started)), "every child is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_clean_stop(number: signal.Signals, echo: int) -> None:
    """SIGTERM, Ctrl-C, a closed terminal: all ends in ten seconds, with status 0, nothing left."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as nohup has it, and so it is by the gateway")
    with gateway(PLAIN.format(echo=echo)) as running:
        started = children(running.process.pid)
        running.process.send_signal(number)
        assert running.process.wait(10) == 0
        assert not any(map(_runs, started))


def test_what_a_later_worker_reads_is_not_cleaned_away(echo: int) -> None:
    """What cleans /tmp of old files passes by a folder that is locked, while the gateway runs."""
    with gateway(PLAIN.format(echo=echo)) as running:
        [worker] = running.workers()
        command = Path(f"/proc/{worker}/cmdline").read_text().split("\0")
        folder = Path(command[command.index("--journal") + 1]).parent
        assert {"versions", "revocations.jsonl"} <= {file.name for file in folder.iterdir()}
        token = token_file(f"127.0.0.1:{running.admin}")
        assert token.exists()
        for place in (folder, token.parent):
            descriptor = os.open(place, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.close(descriptor)


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_standard_streams(closed: tuple[int, ...], echo: int) -> None:
    """As cron and some supervisors start what they run: records and log go nowhere."""
    with short_folder() as folder:
        port, file = free_port(), folder / "gateway.yaml"
        file.write_text(head(port, free_port()) + PLAIN.format(echo=echo))
        shut = " ".join(f"{number}>&-" for number in closed)
        command = f'exec "$0" -m extproc run "$1" {shut}'
        process = subprocess.Popen(
            ["/bin/sh", "-c", command, sys.executable, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        try:
            until(lambda: _answers(port), "it serves", 30)
            assert process.poll() is None
        finally:
            status = end(process)
    assert status == 0


def _answers(port: int) -> bool:
    try:
        return ask(port, "/x").status == 200
    except OSError:
        return False


WAITS = """
import asyncio
from pathlib import Path
from extproc import Plugin

class Waits(Plugin):
    async def on_start(self, services):
        Path("BEGUN").touch()
        await asyncio.sleep(60)
"""


SLOW_ENVOY = """#!/bin/sh
[ "$1" = --version ] && echo "envoy  version: 0/1.40.0/Clean/RELEASE/BoringSSL" && exit
touch BEGUN
exec sleep 60
"""


@pytest.mark.parametrize("waits", ["a plugin of run", "a plugin of serve", "Envoy"])
def test_a_stop_while_it_starts(waits: str, echo: int) -> None:
    """Whatever it waits for, it is given up; status 0, nothing is left."""
    with short_folder() as folder, (folder / "log").open("wb") as output:
        file, begun = folder / "gateway.yaml", folder / "begun"
        waiting = 'plugins: [{use: "plugins.py:Waits"}]'
        route = f"  - {{name: w, match: {{path: /w}}, upstream: echo, {waiting}}}\n"
        text = head(free_port(), free_port()) + PLAIN.format(echo=echo)
        (folder / "plugins.py").write_text(WAITS.replace("BEGUN", str(begun)))
        (folder / "envoy").write_text(SLOW_ENVOY.replace("BEGUN", str(begun)))
        (folder / "envoy").chmod(0o700)
        file.write_text(text if waits == "Envoy" else text + route)
        if waits == "a plugin of serve":
            command = [sys.executable, "-m", "extproc", "serve", str(file)]
            listen = ["--listen", f"unix:{folder}/s"]
            process = subprocess.Popen([*command, *listen], stdout=output, stderr=output, cwd=ROOT)
        else:
            envoy_of = ["--envoy", str(folder / "envoy")] if waits == "Envoy" else []
            process = start_run(file, output, options=envoy_of)
        try:
            until(begun.exists, "it waits", 30)
            started = children(process.pid)
            assert started
            process.terminate()
            assert process.wait(8) == 0, (folder / "log").read_text()
            assert not any(map(_runs, started))
        finally:
            end(process)
        assert "told to stop while it started" in (folder / "log").read_text()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


SLOW = """
import asyncio
from extproc import Plugin

class Slow(Plugin):
    async def on_request(self, request):
        await asyncio.sleep(2)
"""


def test_a_stop_drains(echo: int) -> None:
    """Readiness fails first; a request that is running gets its answer."""
    text = (
        PLAIN.format(echo=echo)
        + """  - name: slow
    match: {path: /slow}
    upstream: echo
    plugins: [{use: "plugins.py:Slow", deadline: 3s}]
"""
    )
    statuses: list[int] = []
    with gateway(text, {"plugins.py": SLOW}) as running:
        asking = threading.Thread(target=lambda: statuses.append(running.ask("/slow").status))
        asking.start()
        asking.join(0.5)  # by then it is in the plugin's hands
        assert not statuses
        running.process.terminate()
        until(lambda: ask(running.admin, "/readyz").status == 503, "readiness fails")
        asking.join(10)
        assert statuses == [200]
        assert running.process.wait(10) == 0


def test_a_stop_under_load_cuts_nothing_off(echo: int) -> None:
    """Whoever was let in gets all of an answer; others learn that nobody listens."""
    ended: list[int | str] = []
    with gateway(PLAIN.format(echo=echo)) as running:

        def client() -> None:
            while "refused" not in ended:
                try:
                    ended.append(running.ask("/x").status)
                except HTTPException as error:  # half an answer, or the end in place of one
                    ended.append(repr(error))
                except (ConnectionRefusedError, ConnectionResetError):
                    ended.append("refused")

        clients = [threading.Thread(target=client) for _ in range(6)]
        for one in clients:
            one.start()
        until(lambda: len(ended) > 100, "there is load")
        running.process.terminate()
        for one in clients:
            one.join(15)
        assert running.process.wait(10) == 0
        assert set(ended) == {200, "refused"}
        assert "still running" not in running.said()


def test_a_killed_envoy_is_replaced(echo: int) -> None:
    """Envoy comes back with the version in force, and status counts it."""
    with gateway(PLAIN.format(echo=echo)) as running:
        (victim,) = set(children(running.process.pid)) - set(running.workers())
        os.kill(victim, signal.SIGKILL)
        until(lambda: running.status()["envoy"]["restarts"] == 1, "it is counted")
        until(lambda: running.ask("/x").status == 200, "requests are answered")


CRASHES = """
import ctypes
from extproc import Plugin

class HoldsTheLock(Plugin):
    def on_request(self, request):
        ctypes.PyDLL(None).sleep(3600)
"""


def test_a_plugin_that_can_not_be_interrupted(echo: int) -> None:
    """C code that keeps the interpreter lock: the worker is replaced, the plugin in threads."""
    text = (
        PLAIN.format(echo=echo)
        + """  - name: bad
    match: {path: /bad}
    upstream: echo
    plugins: [{use: "plugins.py:HoldsTheLock", deadline: 100ms}]
"""
    )
    with gateway(text, {"plugins.py": CRASHES}) as running:
        victim = running.workers()[0]
        assert running.ask("/bad").status in {503, 504}
        until(lambda: running.workers() not in ([], [victim]), "it is replaced", 20)
        until(lambda: running.ask("/x").status == 200, "requests are answered")
        assert '"plugin":"HoldsTheLock"' in running.said()
