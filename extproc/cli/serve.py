"""`extproc serve`: the service alone, for an Envoy that someone else runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from extproc.cli.options import GatewayFile, Server, assembled, fail, only_grpcio


def serve(
    gateway: GatewayFile,
    *,
    listen: Annotated[
        list[str], typer.Option(help="unix:/path or host:port; one worker for each.")
    ],
    server: Server = "grpcio",
    egress: Annotated[
        str, typer.Option(help="Envoy's egress listener, for the service's own calls.")
    ] = "127.0.0.1:9901",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file; TLS for host:port.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file; clients must show a certificate of this CA.")
    ] = None,
) -> None:
    """Serve ext_proc, ext_authz and grpc.health.v1 on each address."""
    only_grpcio(server)
    if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
        fail("--tls-cert and --tls-key go together, --tls-client-ca needs both", 2)
    for address in listen:
        _checked(address, secure=tls_cert is not None)
    assembled(gateway)
    from extproc.host.crew import LoadRefused
    from extproc.host.serving import ServeOptions, Serving

    options = ServeOptions(gateway, tuple(listen), egress, tls_cert, tls_key, tls_client_ca)

    async def serving() -> None:
        await Serving(options).run()

    try:
        asyncio.run(serving())
    except (LoadRefused, OSError) as error:
        fail(error)


def _checked(address: str, *, secure: bool) -> None:
    if address.startswith("unix:/"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        fail(f"--listen {address}: expected unix:/path or host:port", 2)
    if host.strip("[]") not in {"127.0.0.1", "localhost", "::1"} and not secure:
        typer.echo(
            f"warning: {address} is reachable without TLS; whoever reaches it is trusted as Envoy",
            err=True,
        )
