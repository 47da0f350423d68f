"""`extproc envoy`: the configuration for an Envoy that someone else runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from extproc.cli.options import GatewayFile, assembled, fail, named, numbered, spelled

if TYPE_CHECKING:
    from extproc.envoy_config.shapes import ServiceTls

_PARTS = ("filters", "routes", "clusters", "egress")


def envoy(
    gateway: GatewayFile,
    *,
    service: Annotated[
        list[str] | None,
        typer.Option(
            help="Where `extproc serve` listens: unix:/path or host:port; repeatable.",
            metavar="ADDRESS",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--for", help="Whose configuration: envoy.", metavar="envoy")
    ] = "envoy",
    part: Annotated[
        str | None,
        typer.Option(help=f"Print one part alone: {', '.join(_PARTS)}."),
    ] = None,
    egress: Annotated[
        str, typer.Option(help="Where Envoy takes the service's own calls.")
    ] = "127.0.0.1:9901",
    admin: Annotated[str, typer.Option(help="Envoy's admin interface.")] = "127.0.0.1:9902",
    service_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file: the service is asked over TLS, and shows a certificate of this CA "
            "for the host in --service."
        ),
    ] = None,
    service_cert: Annotated[
        Path | None, typer.Option(help="PEM file: what Envoy shows the service.")
    ] = None,
    service_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
) -> None:
    """Print a whole bootstrap that Envoy validates, or one part of it, as JSON."""
    if target != "envoy":
        fail(f"--for {target}: isn't built yet in this version, expected envoy", 2)
    if part is not None and part not in _PARTS:
        fail(f"--part {part}: expected one of {', '.join(_PARTS)}", 2)
    for option, address in (("--egress", egress), ("--admin", admin)):
        numbered(option, address)
    services = tuple(service or ["127.0.0.1:9191"])
    tls = _tls(service_ca, service_cert, service_key)
    sockets = [one for one in services if spelled("--service", one).startswith("unix:/")]
    if sockets and tls is not None:
        fail(f"--service-ca: {sockets[0]} has no TLS, expected host:port", 2)
    if sockets and any(map(named, services)):
        fail(f"--service {sockets[0]}: expected no names beside it, which Envoy resolves", 2)
    assembly = assembled(gateway)

    from extproc.adapters.system import system_roots
    from extproc.envoy_config.compile import part_of, static
    from extproc.envoy_config.shapes import Facts

    loaded = assembly.loaded
    facts = Facts(
        services,
        egress,
        admin,
        "",
        system_roots(),
        tls,
    )
    bootstrap = static(
        loaded.gateway,
        assembly.modes,
        facts,
        loaded.version,
        assembly.published,
    )
    written = orjson.dumps(
        part_of(bootstrap, part) if part else bootstrap, None, orjson.OPT_INDENT_2
    )
    typer.echo(written.decode())


def _tls(authority: Path | None, certificate: Path | None, key: Path | None) -> ServiceTls | None:
    """Return how the service is asked over TLS, or end where half of it is missing.

    Files are named by their whole paths, wherever Envoy is started.
    """
    from extproc.envoy_config.shapes import ServiceTls

    if (certificate is None) != (key is None) or (certificate and not authority):
        fail("--service-cert and --service-key go together, and need --service-ca", 2)
    if authority is None:
        return None
    return ServiceTls(
        *(str(one.absolute()) if one else "" for one in (authority, certificate, key))
    )
