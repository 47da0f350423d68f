"""Child processes: started so that none outlives this one, however it ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LONGEST_LINE = 4 << 20  # that is read from a child's output
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; runs in the child before its program."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended already
            os.kill(os.getpid(), signal.SIGKILL)


async def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
    output: int | None = None,
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, so that Ctrl-C reaches the parent alone.

    Args:
        command: program and arguments.
        environment: all of it.
        descriptors: further file descriptors that the child keeps.
        output: where its output goes, and where its errors go; None for this process's own. With
            `PIPE` each has a pipe of its own: what a child writes in pieces stays in one piece.
    """
    parent = os.getpid()
    return await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        limit=_LONGEST_LINE,
        preexec_fn=lambda: _die_with_parent(parent),
    )


async def stop(process: asyncio.subprocess.Process, seconds: float) -> None:
    """End a child: politely, then by force."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def kill(process: asyncio.subprocess.Process) -> None:
    """End a child at once."""
    _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        try:
            process.send_signal(number)
        except ProcessLookupError:
            return


class Backoff:
    """How long to wait before the next start: longer each time, unless it ran for a while."""

    def __init__(self, first: float = 0.1, longest: float = 5.0, calm: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._calm = calm
        self._pause = 0.0

    def next(self, ran: float) -> float:
        """Return seconds to wait after a run of this many seconds."""
        if ran >= self._calm:
            self._pause = 0.0
        pause = self._pause
        self._pause = min(max(self._pause * 2, self._first), self._longest)
        return pause
