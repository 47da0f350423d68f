"""`extproc check`: everything that can be known before traffic."""

from __future__ import annotations

import json
import os

import typer

from extproc.cli.options import GatewayFile, Json, assembled


def check(gateway: GatewayFile, *, as_json: Json = False) -> None:
    """Validate a gateway file; each trouble is one line with file:line:column."""
    if as_json:
        _as_json(gateway)
        return
    from extproc.envoy_config.compile import buffering

    assembly = assembled(gateway)
    loaded = assembly.loaded
    for warning in assembly.warnings:
        typer.echo(f"{warning} (warning)", err=True)
    count = len(loaded.gateway.routes)
    typer.echo(f"{gateway}: {count} route{'' if count == 1 else 's'}, version {loaded.version}")
    for name, lines in assembly.plans():
        typer.echo(f"{name} calls")
        for line in lines:
            typer.echo(f"  {line}")
    buffers = buffering(assembly.modes)
    if buffers:
        typer.echo(f"1xx responses are not passed on, as {buffers[0]} needs whole request bodies")
    else:
        typer.echo("1xx responses are passed on")


def _as_json(gateway: GatewayFile) -> None:
    from extproc.config.build import assemble
    from extproc.config.errors import ConfigError
    from extproc.config.load import load

    try:
        loaded = assemble(load(gateway, os.environ)).loaded
    except ConfigError as error:
        troubles = [
            {
                "file": t.at.file,
                "line": t.at.line,
                "column": t.at.column,
                "key": t.key,
                "problem": t.problem,
                "expected": t.expected,
            }
            for t in error.troubles
        ]
        typer.echo(json.dumps({"ok": False, "troubles": troubles}, indent=2))
        raise typer.Exit(1) from error
    routes = [route.name for route in loaded.gateway.routes]
    document = {"ok": True, "version": loaded.version, "routes": routes}
    typer.echo(json.dumps(document, indent=2))
