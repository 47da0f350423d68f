"""`extproc run`: Envoy and the service together."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from extproc.cli.options import (
    BusyPoll,
    EnvoyPath,
    GatewayFile,
    Server,
    Workers,
    fail,
    known_server,
    pollable,
)


def run(
    gateway: GatewayFile,
    *,
    workers: Workers = 1,
    envoy: EnvoyPath = None,
    server: Server = "local",
    concurrency: Annotated[int, typer.Option(min=1, help="Envoy's worker threads.")] = 2,
    busy_poll: BusyPoll = 0,
) -> None:
    """Run Envoy and the service, supervised, reloading when the gateway file changes."""
    pollable(busy_poll, known_server(server))
    from extproc.adapters.envoy_binary import EnvoyNotFound, binary
    from extproc.core.errors import ConfigFault
    from extproc.host.crew import LoadRefused
    from extproc.host.proxy import EnvoyFailed
    from extproc.host.supervisor import RunOptions, Supervisor

    async def supervise(options: RunOptions) -> None:
        await Supervisor(options).run()

    try:
        found = binary(envoy)  # here, where a signal ends it, as it may have to be asked
        options = RunOptions(gateway, found, workers, concurrency, server, busy_poll, announce)
        asyncio.run(supervise(options))
    except (ConfigFault, EnvoyNotFound, LoadRefused, EnvoyFailed, OSError) as error:
        fail(error)


def announce(listener: str, admin: str) -> None:
    """Say where everything is, to people: elsewhere decision records go there, one a line."""
    if sys.stdout.isatty():
        typer.echo(f"serving on {listener}, admin on {admin}")
