"""Waiting, interrupting and threads: the guard's port, for a process with one event loop."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

from extproc.adapters.journal import Journal
from extproc.adapters.timers import Timers
from extproc.adapters.watchdog import Watchdog
from extproc.adapters.within import done_within, outcome
from extproc.core.errors import DeadlinePassed, HookInterrupted, PluginFault, tamed
from extproc.core.waiting import discard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator


_MOST_THREADS = 8  # per plugin; more at once is "busy"


class LoopRuntime:
    """The runtime of one worker process; make it in the main thread, on the running loop.

    Attributes:
        watchdog: interrupts the hooks that block.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self._loop)
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._threads: dict[str, int] = {}
        self.watchdog = Watchdog(journal or Journal())
        self.arm, self.disarm = self.watchdog.arm, self.watchdog.disarm
        self.monotonic = time.monotonic

    def close(self) -> None:
        """Stop watching."""
        self.watchdog.close()

    async def wait(self, awaitable: Awaitable[Any], name: str, seconds: float) -> Any:
        """Await in a task of its own; see the port."""
        step = _step_armed(awaitable, self.watchdog, name, seconds, self.monotonic())
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
    awaitable: Awaitable[Any], watchdog: Watchdog, name: str, seconds: float, began: float
) -> Any:
    return await _Armed(awaitable, watchdog, name, seconds, began)


class _Armed:
    """An awaitable whose every step runs armed, until a hook of its plugin has blocked."""

    def __init__(
        self,
        awaitable: Awaitable[Any],
        watchdog: Watchdog,
        name: str,
        seconds: float,
        began: float,
    ) -> None:
        self._steps: Coroutine[Any, Any, Any] | Generator[Any, Any, Any] = (
            awaitable if asyncio.iscoroutine(awaitable) else awaitable.__await__()
        )
        self._watchdog = watchdog
        self._name = name
        self._seconds = seconds
        self._began = began

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the steps."""
        value: Any = None
        thrown: BaseException | None = None
        while True:
            if self._watchdog.was_interrupted(self._name, self._began):
                thrown = HookInterrupted(self._name)
            self._watchdog.arm(self._name, self._seconds)
            try:
                waited = self._steps.throw(thrown) if thrown else self._steps.send(value)
            except StopIteration as stop:
                return stop.value
            finally:
                self._watchdog.disarm()
            value, thrown = None, None
            try:
                value = yield waited
            except BaseException as error:  # noqa: BLE001 - belongs to the hook
                thrown = error
