"""`extproc schema`: the gateway file's JSON Schema."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of the gateway file, for editors."""
    from extproc.config.load import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
