"""What every upstream of the shop shares: a port, a line when it listens, an end."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import signal
import socket
import sys
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)


def parser() -> argparse.ArgumentParser:
    """Return a parser with `--port`."""
    result = argparse.ArgumentParser()
    result.add_argument("--port", type=int, default=0)
    return result


def end_with_parent() -> None:
    """Ask the kernel to end this process with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def announce(scheme: str, port: int) -> None:
    """Say on standard output that the service listens."""
    sys.stdout.write(f"listening on {scheme}://127.0.0.1:{port}\n")
    sys.stdout.flush()


def serve(make: Callable[[int], web.Application], port: int) -> None:
    """Serve an application on 127.0.0.1 until SIGTERM or Ctrl-C.

    Args:
        make: gets the port that was bound and returns the application.
        port: 0 for a free one.
    """
    end_with_parent()
    asyncio.run(_serve(make, port))


async def _serve(make: Callable[[int], web.Application], port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Bound before the application is made: an issuer's name holds its port.
    bound = socket.create_server(("127.0.0.1", port))
    runner = web.AppRunner(make(bound.getsockname()[1]), access_log=None)
    await runner.setup()
    await web.SockSite(runner, bound).start()
    announce("http", bound.getsockname()[1])
    await stop.wait()
    await runner.cleanup()
