"""The runtime under uvloop: hooks that block are interrupted, nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from extproc.adapters import watchdog
from extproc.adapters.journal import Journal, running
from extproc.adapters.runtime import LoopRuntime
from extproc.core.errors import DeadlinePassed, HookInterrupted
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path


def on_uvloop(test: Callable[[LoopRuntime], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine with a runtime on uvloop."""

    async def run() -> Any:
        runtime = LoopRuntime()
        try:
            return await test(runtime)
        finally:
            runtime.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _sleeps() -> None:
    threading.Event().wait(60)


def _locks() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _spins() -> None:
    while True:
        pass


def _reads() -> None:
    one, two = socket.socketpair()
    with one, two:
        one.recv(1)


def _swallows() -> None:
    while True:
        with contextlib.suppress(Exception):
            threading.Event().wait(60)


def _armed(runtime: LoopRuntime, block: Callable[[], None]) -> None:
    runtime.arm("bad", 0.05)
    block()


@pytest.mark.parametrize("block", [_sleeps, _locks, _spins, _reads, _swallows])
def test_blocking_is_interrupted(block: Callable[[], None]) -> None:
    """Sleeps, locks, loops, sockets, and code that swallows every Exception."""

    async def test(runtime: LoopRuntime) -> float:
        began = time.monotonic()
        with pytest.raises(HookInterrupted):
            _armed(runtime, block)
        return time.monotonic() - began

    assert on_uvloop(test) < 5


def test_blocking_in_a_step_is_interrupted() -> None:
    """A coroutine that blocks between two awaits is interrupted like any other hook."""

    async def hook() -> None:
        await asyncio.sleep(0)
        _sleeps()

    async def test(runtime: LoopRuntime) -> None:
        with pytest.raises(HookInterrupted):
            await runtime.wait(hook(), "bad", 0.05)

    on_uvloop(test)


def test_nothing_is_interrupted_that_isnt_armed() -> None:
    """Work outside hooks takes as long as it takes."""

    async def test(runtime: LoopRuntime) -> str:
        runtime.arm("fine", 0.01)
        runtime.disarm()
        ends = time.monotonic() + 0.2
        while time.monotonic() < ends:
            pass
        return "done"

    assert on_uvloop(test) == "done"


STOPPED = """
import asyncio, sys, time
from pathlib import Path
from extproc.adapters.runtime import LoopRuntime
from extproc.core.errors import HookInterrupted

async def main(folder):
    runtime = LoopRuntime()
    try:
        runtime.arm("fine", 0.5)
        (folder / "begun").touch()
        while not (folder / "resumed").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        runtime.disarm()
        print("done")
    except HookInterrupted:
        print("interrupted")
    finally:
        runtime.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_time_in_which_the_process_stood_still_is_not_the_hooks(tmp_path: Path) -> None:
    """As where a container has used up its share of the CPU: nobody blocked."""
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        until((tmp_path / "begun").exists, "the hook runs")
        process.send_signal(signal.SIGSTOP)
        ends = time.monotonic() + 1  # twice its deadline
        until(lambda: time.monotonic() > ends, "it has stood still")
        (tmp_path / "resumed").touch()
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0] == "done\n"


def test_an_idle_watchdog_rests_and_the_next_hook_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again: what blocks after a pause is interrupted like anything else."""
    monkeypatch.setattr(watchdog, "_QUIET", 2)

    async def test(runtime: LoopRuntime) -> int:
        interrupted = 0
        for _ in range(3):
            until(lambda: runtime.watchdog.resting, "the watchdog rests")
            try:
                _armed(runtime, _sleeps)
            except HookInterrupted:
                interrupted += 1
        return interrupted

    assert on_uvloop(test) == 3


def test_a_hook_that_takes_long_is_watched_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet is where no hook runs, not where none begins."""
    monkeypatch.setattr(watchdog, "_QUIET", 1)

    async def test(runtime: LoopRuntime) -> None:
        runtime.arm("slow", 0.3)
        with pytest.raises(HookInterrupted):
            _sleeps()

    on_uvloop(test)


def test_waiting_ends_at_the_deadline_even_if_the_hook_refuses() -> None:
    """A hook that swallows its cancellation is left behind."""

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    async def test(runtime: LoopRuntime) -> float:
        began = time.monotonic()
        with pytest.raises(DeadlinePassed):
            await runtime.wait(stubborn(), "bad", 0.05)
        return time.monotonic() - began

    assert on_uvloop(test) < 2


def test_threads_that_spin_are_ended() -> None:
    """A pure loop in a thread would slow everyone; it is told to end at its deadline."""

    async def test(runtime: LoopRuntime) -> int:
        before = threading.active_count()
        with pytest.raises(DeadlinePassed):
            await runtime.offload(_spins, "bad", 0.05)
        for _ in range(500):
            if threading.active_count() <= before:
                break
            await asyncio.sleep(0.01)
        return threading.active_count() - before

    assert on_uvloop(test) <= 0


def test_results_and_errors_come_back_from_threads() -> None:
    """Of functions and of coroutine functions."""

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    class Later:
        """Something to await that is no coroutine, as what a call returns."""

        def __init__(self, value: int) -> None:
            self.value = value

        def __await__(self) -> Generator[Any, Any, int]:
            yield from asyncio.sleep(0).__await__()
            return self.value

    async def test(runtime: LoopRuntime) -> None:
        assert await runtime.offload(lambda: 7, "fine", 1) == 7
        assert await runtime.offload(lambda: double(7), "fine", 1) == 14
        assert await runtime.offload(lambda: Later(7), "fine", 1) == 7
        with pytest.raises(KeyError):
            await runtime.offload(lambda: os.environ["NO_SUCH_VARIABLE"], "fine", 1)

    on_uvloop(test)


def test_the_journal_tells_whose_hook_runs(tmp_path: Path) -> None:
    """For the supervisor of a process that can say nothing itself."""
    path = tmp_path / "journal"
    journal = Journal(path)
    assert running(path) == ""
    for name in ("Tenant", "authenticate", "Tenant"):
        journal.memory[0] = journal.number(name)
        assert running(path) == name
    for number in range(300):
        journal.memory[0] = journal.number(f"{number}" + "x" * 300)
    assert running(path) == ""
    journal.memory[0] = journal.number("authenticate")
    assert running(path) == "authenticate"
    journal.memory[0] = 0
    assert running(path) == ""
    assert running(tmp_path / "absent") == ""


def test_hooks_that_began_before_the_first_was_found_out_don_t_block_as_well() -> None:
    """Many in one read: one blocks for its deadline, the others are ended at once."""

    async def hook() -> None:
        _sleeps()

    async def waits() -> None:
        await asyncio.sleep(0.2)
        _sleeps()

    async def test(runtime: LoopRuntime) -> float:
        began = time.monotonic()
        many = [runtime.wait(hook(), "bad", 0.2) for _ in range(50)]
        many += [runtime.wait(waits(), "bad", 5.0) for _ in range(50)]
        ends = await asyncio.gather(*many, return_exceptions=True)
        assert all(isinstance(end, HookInterrupted | DeadlinePassed) for end in ends)
        return time.monotonic() - began

    assert on_uvloop(test) < 5
