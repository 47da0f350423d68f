"""`extproc serve`: the service alone, for an Envoy that someone else runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from extproc.cli.options import (
    BusyPoll,
    GatewayFile,
    assembled,
    fail,
    known_server,
    pollable,
    spelled,
)


def serve(
    gateway: GatewayFile,
    *,
    listen: Annotated[
        list[str],
        typer.Option(help="unix:/path or host:port; one worker for each.", metavar="ADDRESS"),
    ],
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            help="Which gRPC server: local (ours, for an Envoy on this host) or grpcio (any "
            "host, TLS). By default local where every address is this host's own, without TLS.",
            metavar="local|grpcio",
            show_default=False,
        ),
    ] = None,
    egress: Annotated[
        str, typer.Option(help="Envoy's egress listener, for the service's own calls.")
    ] = "127.0.0.1:9901",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file; TLS for host:port.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file; clients must show a certificate of this CA.")
    ] = None,
    busy_poll: BusyPoll = 0,
) -> None:
    """Serve ext_proc, ext_authz and grpc.health.v1 on each address."""
    if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
        fail("--tls-cert and --tls-key go together, --tls-client-ca needs both", 2)
    for address in listen:
        _checked(address, secure=tls_cert is not None)
    spelled("--egress", egress)
    twice = [one for one in listen if listen.count(one) > 1]
    if twice:
        fail(f"--listen {twice[0]}: given twice; each worker needs an address of its own", 2)
    chosen = _server(server, listen, secure=tls_cert is not None)
    if tls_cert is not None and tls_key is not None:
        _readable(tls_cert, tls_key, tls_client_ca)
    pollable(busy_poll, chosen)
    assembled(gateway)
    from extproc.core.errors import ConfigFault
    from extproc.host.crew import LoadRefused
    from extproc.host.serving import ServeOptions, Serving

    tls = (tls_cert, tls_key, tls_client_ca)
    options = ServeOptions(gateway, tuple(listen), egress, chosen, *tls, busy_poll)

    async def serving() -> None:
        await Serving(options).run()

    try:
        asyncio.run(serving())
    except (ConfigFault, LoadRefused, OSError) as error:
        fail(error)


def _readable(certificate: Path, key: Path, client_ca: Path | None) -> None:
    """Refuse files that TLS can't be served with; gRPC says of them that it can't bind."""
    import ssl

    context, option = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "--tls-cert, --tls-key"
    try:
        context.load_cert_chain(certificate, key)
        option = "--tls-client-ca"
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except OSError as error:  # an error of TLS is one
        fail(f"{option}: {error.strerror or error}", 2)


def _server(asked: str | None, listen: list[str], *, secure: bool) -> str:
    """Choose the server, or refuse the one that was asked for."""
    from extproc.adapters.local.server import check_address
    from extproc.core.errors import ConfigFault

    if asked is not None and known_server(asked) == "grpcio":
        return asked
    try:
        for address in listen:
            check_address(address)
    except ConfigFault as refused:
        if asked is not None:
            fail(f"--listen {refused}", 2)
        return "grpcio"
    if secure and asked is not None:
        fail("--server local has no TLS; leave out --tls-cert, or use --server grpcio", 2)
    return "grpcio" if secure else "local"


def _checked(address: str, *, secure: bool) -> None:
    if spelled("--listen", address).startswith("unix:/"):
        return
    host, _, port = address.rpartition(":")
    if not int(port):
        fail(f"--listen {address}: expected a port that Envoy can be told", 2)
    if host.strip("[]") not in {"127.0.0.1", "localhost", "::1"} and not secure:
        typer.echo(
            f"warning: {address} is reachable without TLS; whoever reaches it is trusted as Envoy",
            err=True,
        )
