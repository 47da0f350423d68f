"""The watchdog: a hook that blocks the event loop is interrupted at its deadline.

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

import signal
import threading
import time
from typing import TYPE_CHECKING

from extproc.core.errors import HookInterrupted

if TYPE_CHECKING:
    from types import FrameType

    from extproc.adapters.journal import Journal

_monotonic = time.monotonic
_SIGNAL = signal.SIGUSR1
_TICK = 0.02
_QUIET = 50  # ticks without a hook, after which the watchdog rests


class Watchdog:
    """Watches the hooks of one process; make it in the main thread.

    Args:
        journal: where it is written which plugin runs.

    Attributes:
        resting: nothing is watched until the next hook wakes it.
    """

    def __init__(self, journal: Journal) -> None:
        self._main = threading.get_ident()
        self._number, self._running = journal.number, journal.memory
        self._numbers: dict[str, int] = {}
        self._armed: tuple[str, float, float] | None = None  # its deadline, and `_stood` then
        self._stood = 0.0  # seconds that the process stood still, while it was watched
        self._used = time.pthread_getcpuclockid(self._main)
        self._interrupted: dict[str, float] = {}
        self._stopped = threading.Event()
        self._ran = False  # a hook, since the last tick
        self._wanted = threading.Event()
        self.resting = False
        self._watcher = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        signal.signal(_SIGNAL, self._interrupt)
        self._watcher.start()

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
