"""Waiting, interrupting and threads: the guard's port, for a process with one event loop.

A hook that blocks the loop can't be seen by the loop, so a thread watches: while a hook runs
it is armed, and past its deadline the thread sends the main thread a signal whose handler
raises `HookInterrupted`, but only if that same hook is still armed. After a second without any hook
it rests until there is one, so that an idle worker sleeps. Sleeps, locks and sockets
are interrupted by the signal itself (PEP 475 retries a call only if the handler returns); a
pure loop between two bytecodes. C code that keeps the interpreter lock can't be interrupted;
the supervisor sees the worker's health check fail, and reads from the journal which plugin was
armed. Time in which the process stood still (a container that used up its share of the CPU, a
machine that was suspended) isn't the hook's: the thread stood still as well, and sees it.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from extproc.adapters.journal import Journal
from extproc.adapters.timers import Timers
from extproc.adapters.within import done_within, outcome
from extproc.core.errors import DeadlinePassed, HookInterrupted, PluginFault, tamed
from extproc.core.waiting import discard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from types import FrameType


_monotonic = time.monotonic
_SIGNAL = signal.SIGUSR1
_TICK = 0.02
_QUIET = 50  # ticks without a hook, after which the watchdog rests
_MOST_THREADS = 8  # per plugin; more at once is "busy"


class LoopRuntime:
    """The runtime of one worker process; make it in the main thread, on the running loop.

    Attributes:
        resting: nothing is watched until the next hook wakes the watchdog.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self._loop)
        self._main = threading.get_ident()
        journal = journal or Journal()
        self._number, self._running = journal.number, journal.memory
        self._numbers: dict[str, int] = {}
        self._armed: tuple[str, float, float] | None = None  # its deadline, and `_stood` then
        self._stood = 0.0  # seconds that the process stood still, while it was watched
        self._used = time.pthread_getcpuclockid(self._main)
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._threads: dict[str, int] = {}
        self._interrupted: dict[str, float] = {}
        self._stopped = threading.Event()
        self._ran = False  # a hook, since the last tick
        self._wanted = threading.Event()
        self.resting = False
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        signal.signal(_SIGNAL, self._interrupt)
        self._watchdog.start()
        self.monotonic = time.monotonic

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._wanted.set()

    def arm(self, name: str, seconds: float) -> float:
        """From now on, interrupt the running hook after this long; returns the moment."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = self._number(name)
        self._running[0] = number
        now = _monotonic()
        self._armed = (name, now + seconds, self._stood)
        self._ran = True
        if self.resting:
            self._wanted.set()
        return now

    def disarm(self) -> float:
        """The hook returned; returns the moment."""
        self._armed = None
        self._running[0] = 0
        return _monotonic()

    def _watch(self) -> None:
        quiet, now, used = 0, _monotonic(), time.clock_gettime(self._used)
        while not self._stopped.wait(_TICK):
            then, now = now, _monotonic()
            before, used = used, time.clock_gettime(self._used)
            # Late while the main thread worked, it was kept from the interpreter by that.
            self._stood += max(0.0, now - then - _TICK - (used - before))
            if self._is_late():
                signal.pthread_kill(self._main, _SIGNAL)
            quiet = 0 if self._ran else quiet + 1
            self._ran = False
            if quiet >= _QUIET:
                self._rest()
                quiet, now, used = 0, _monotonic(), time.clock_gettime(self._used)

    def _rest(self) -> None:
        """Wait for the next hook.

        A hook arms and marks itself before it looks whether anybody rests, so one that begins
        right now is either seen here or sees that it has to wake.
        """
        self._wanted.clear()
        self.resting = True
        if self._armed is None and not self._ran and not self._stopped.is_set():
            self._wanted.wait()
        self.resting = False

    def _is_late(self) -> bool:
        armed = self._armed
        return armed is not None and _monotonic() > armed[1] + self._stood - armed[2]

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        armed = self._armed
        if armed is not None and self._is_late():
            self.disarm()
            self._interrupted[armed[0]] = time.monotonic()
            raise HookInterrupted(armed[0])

    def was_interrupted(self, name: str, since: float) -> bool:
        """Say whether a hook of this plugin blocked after a moment.

        Many may have begun before the first was found out; each would block for as long.
        """
        return self._interrupted.get(name, -1.0) >= since

    async def wait(self, awaitable: Awaitable[Any], name: str, seconds: float) -> Any:
        """Await in a task of its own; see the port."""
        step = _step_armed(awaitable, self, name, seconds, _monotonic())
        task = self._loop.create_task(step)
        try:
            done = await done_within(task, seconds, self._timers)
        except BaseException:
            if inspect.getcoroutinestate(step) == inspect.CORO_CREATED:
                discard(awaitable)
            self._leave_behind(task)
            raise
        if done and task.cancelled():
            raise PluginFault("it was cancelled")  # by itself: nobody else has its task
        if done:
            return task.result()
        self._leave_behind(task)
        raise DeadlinePassed(name)

    def _leave_behind(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task without waiting for it; a hook may refuse to end."""
        task.cancel()
        self._left_behind.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that asyncio doesn't report it

    async def offload(self, function: Callable[[], Any], name: str, seconds: float) -> Any:
        """Run in a daemon thread of its own; see the port."""
        if self._threads.get(name, 0) >= _MOST_THREADS:
            raise DeadlinePassed(name)
        future = self._loop.create_future()
        thread = threading.Thread(
            target=self._in_thread, args=(function, future, name), name=name, daemon=True
        )
        self._threads[name] = self._threads.get(name, 0) + 1
        thread.start()
        done, _ = await asyncio.wait((future,), timeout=seconds)
        if done:
            return future.result()
        if thread.ident is not None:
            # Ends pure loops; a thread asleep in C sees it when it wakes.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(HookInterrupted)
            )
        raise DeadlinePassed(name)

    def _in_thread(
        self, function: Callable[[], Any], future: asyncio.Future[Any], name: str
    ) -> None:
        result = None
        error: BaseException | None = None
        try:
            result = function()
            if inspect.isawaitable(result):
                result = asyncio.run(outcome(result))
        except HookInterrupted:
            error = DeadlinePassed(name)
        except (SystemExit, KeyboardInterrupt) as raised:
            error = tamed(raised)
        except asyncio.CancelledError:
            error = PluginFault("it was cancelled")
        except BaseException as raised:  # noqa: BLE001 - handed on to whoever waits
            error = raised
        self._loop.call_soon_threadsafe(self._thread_ended, future, name, result, error)

    def _thread_ended(
        self, future: asyncio.Future[Any], name: str, result: Any, error: BaseException | None
    ) -> None:
        self._threads[name] -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()


async def _step_armed(
    awaitable: Awaitable[Any], runtime: LoopRuntime, name: str, seconds: float, began: float
) -> Any:
    return await _Armed(awaitable, runtime, name, seconds, began)


class _Armed:
    """An awaitable whose every step runs armed, until a hook of its plugin has blocked."""

    def __init__(
        self,
        awaitable: Awaitable[Any],
        runtime: LoopRuntime,
        name: str,
        seconds: float,
        began: float,
    ) -> None:
        self._steps: Coroutine[Any, Any, Any] | Generator[Any, Any, Any] = (
            awaitable if asyncio.iscoroutine(awaitable) else awaitable.__await__()
        )
        self._runtime = runtime
        self._name = name
        self._seconds = seconds
        self._began = began

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the steps."""
        value: Any = None
        thrown: BaseException | None = None
        while True:
            if self._runtime.was_interrupted(self._name, self._began):
                thrown = HookInterrupted(self._name)
            self._runtime.arm(self._name, self._seconds)
            try:
                waited = self._steps.throw(thrown) if thrown else self._steps.send(value)
            except StopIteration as stop:
                return stop.value
            finally:
                self._runtime.disarm()
            value, thrown = None, None
            try:
                value = yield waited
            except BaseException as error:  # noqa: BLE001 - belongs to the hook
                thrown = error
