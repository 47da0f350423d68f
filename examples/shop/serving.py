"""Runs one of the shop's services as a process of its own."""

import argparse
import asyncio
import ctypes
import signal
import sys

from aiohttp import web

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1


def argument_parser(name: str) -> argparse.ArgumentParser:
    """Returns the parser every service shares; a service may add options.

    Args:
        name: The service's name, shown in its usage text.

    Returns:
        A parser which knows ``--port``.
    """
    parser = argparse.ArgumentParser(prog=f"examples.shop.{name}")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    return parser


def die_with_parent() -> None:
    """Asks Linux to stop this process when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def announce(port: int, scheme: str = "http") -> None:
    """Prints the line which tells whoever started the service that it is ready.

    Args:
        port: The port the service listens on.
        scheme: The protocol it speaks.
    """
    sys.stdout.write(f"listening on {scheme}://{HOST}:{port}\n")
    sys.stdout.flush()


def stop_signal() -> asyncio.Event:
    """Catches SIGTERM and SIGINT in the running event loop.

    Returns:
        An event which is set once the process is told to stop.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def _serve(application: web.Application, port: int) -> None:
    stopped = stop_signal()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        announce(runner.addresses[0][1])
        await stopped.wait()
    finally:
        await runner.cleanup()


def run(application: web.Application, port: int) -> None:
    """Serves an application until the process is told to stop.

    Args:
        application: What to serve.
        port: The port to listen on; 0 takes a free one.
    """
    die_with_parent()
    asyncio.run(_serve(application, port))


def serve(application: web.Application, name: str) -> None:
    """Reads ``--port`` from the command line and serves an application.

    Args:
        application: What to serve.
        name: The service's name, shown in its usage text.
    """
    run(application, argument_parser(name).parse_args().port)


def not_found(what: str) -> web.Response:
    """Returns the 404 every service answers with.

    Args:
        what: What was looked for.

    Returns:
        A JSON response.
    """
    return web.json_response({"error": f"{what} not found"}, status=404)
