"""`extproc key new`: an API key, shown once, and the entry for the keys file."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from extproc.cli.options import Json, fail

application = typer.Typer(help="API keys.", no_args_is_help=True)
_SECRET_BYTES = 32
_SALT_BYTES = 16


@application.callback()
def key() -> None:
    """API keys."""


@application.command()
def new(
    *,
    consumer: Annotated[str, typer.Option(help="The class of client; empty for none.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What the key grants; repeat it.", metavar="SCOPE")
    ] = None,
    identifier: Annotated[
        str, typer.Option("--id", help="By default a random one.", show_default=False)
    ] = "",
    expires: Annotated[
        str, typer.Option(help="How long it is good for, for example 90d; by default for ever.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print a new key, once, and the entry to put into the keys file.

    The key itself is kept nowhere; the entry holds a salted hash of it.
    """
    from extproc.config.keys_file import made
    from extproc.config.units import duration

    fields: dict[str, Any] = {}
    if consumer:
        fields["consumer"] = consumer
    if scope:
        fields["scopes"] = scope
    try:
        if expires:
            ends = datetime.fromtimestamp(time.time() + duration(expires), UTC)
            fields["expires"] = ends.isoformat(timespec="seconds")
        text, entry = made(
            identifier or secrets.token_hex(8),
            secrets.token_urlsafe(_SECRET_BYTES),
            secrets.token_hex(_SALT_BYTES),
            fields,
        )
    except ValueError as error:
        fail(f"extproc key new: {error}", 2)
    if as_json:
        typer.echo(json.dumps({"key": text, "entry": entry}, indent=2))
        return
    typer.echo(f"key (shown once):\n  {text}\n\nentry for the keys file (one line of .jsonl):")
    typer.echo("  " + json.dumps(entry))
