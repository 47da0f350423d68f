"""`extproc envoy`: the configuration for an Envoy that someone else runs."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from extproc.cli.options import GatewayFile, assembled, fail, spelled

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
) -> None:
    """Print a whole bootstrap that Envoy validates, or one part of it, as JSON."""
    if target != "envoy":
        fail(f"--for {target}: isn't built yet in this version, expected envoy", 2)
    if part is not None and part not in _PARTS:
        fail(f"--part {part}: expected one of {', '.join(_PARTS)}", 2)
    for option, address in (("--egress", egress), ("--admin", admin)):
        spelled(option, address)
    for address in service or ():
        spelled("--service", address)
    assembly = assembled(gateway)

    from extproc.adapters.system import system_roots
    from extproc.envoy_config.compile import part_of, static
    from extproc.envoy_config.shapes import Facts

    loaded = assembly.loaded
    facts = Facts(
        tuple(service or ["127.0.0.1:9191"]),
        egress,
        admin,
        "",
        system_roots(),
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
