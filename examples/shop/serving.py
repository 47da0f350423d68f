"""How every upstream of the shop starts, says that it is ready, and stops."""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from aiohttp import web

from examples.shop.lifetime import end_with_parent

Served = web.Application | web.Server[web.BaseRequest]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LONGEST_STOP = 1.0  # seconds for the exchanges under way
BACKLOG = 1024


def parser(description: str | None, port: int) -> argparse.ArgumentParser:
    """Give the command line that all upstreams share; `port` is the demonstration's."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=port, help="0 takes a free one")
    options.add_argument(
        "--with-parent", action="store_true", help="exit when the parent, or standard input, ends"
    )
    return options


def serve_http(options: argparse.Namespace, make: Callable[[str], Served]) -> None:
    """Serve what `make` gives for our base URL until told to stop."""
    run(options, _serve_http(options, make))


def run(options: argparse.Namespace, service: Awaitable[None]) -> None:
    """Run a service to its end, which comes with the parent's if so asked."""
    if options.with_parent:
        end_with_parent()
    asyncio.run(_finish(service))


def announce(host: str, port: int) -> None:
    """Say, on one line, that we are ready and where."""
    sys.stdout.write(f"listening on {base_url(host, port)}\n")
    sys.stdout.flush()


def base_url(host: str, port: int) -> str:
    """Give the URL of a listening address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def until_stopped() -> AsyncIterator[None]:
    """Run the body, then wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    yield
    await stop.wait()


def application() -> web.Application:
    """Make an application whose errors are JSON."""
    return web.Application(middlewares=[_errors_as_json])


def refuse(status: int, detail: str) -> web.Response:
    """Answer an error."""
    return web.json_response({"error": detail}, status=status)


async def read_object(request: web.Request) -> dict[str, object] | None:
    """Read a JSON object from the body; None if it is something else."""
    try:
        value = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


async def _finish(service: Awaitable[None]) -> None:
    await service


async def _serve_http(options: argparse.Namespace, make: Callable[[str], Served]) -> None:
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    runner = _runner(make(base_url(options.host, port)))
    await runner.setup()
    try:
        async with until_stopped():
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            announce(options.host, port)
    finally:
        await runner.cleanup()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _runner(served: Served) -> web.BaseRunner[web.Request] | web.BaseRunner[web.BaseRequest]:
    if isinstance(served, web.Application):
        return web.AppRunner(served, access_log=None, shutdown_timeout=LONGEST_STOP)
    return web.ServerRunner(served, shutdown_timeout=LONGEST_STOP)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        answer = refuse(error.status, error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


def query_number(request: web.Request, name: str, default: int) -> int:
    """Reads a count from the query string.

    Args:
        request: The request.
        name: The parameter's name.
        default: What it is when left out.

    Returns:
        The number.

    Raises:
        web.HTTPBadRequest: If it is not a whole number, or below zero.
    """
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f"{name} must be a whole number")
    return int(text)


def bad_request(why: str) -> web.HTTPBadRequest:
    """Returns the 400 every service raises.

    Args:
        why: What is wrong with the request.

    Returns:
        An error with a JSON body.
    """
    return web.HTTPBadRequest(text=json.dumps({"error": why}), content_type="application/json")
