"""`extproc purge`: stored responses that are no longer good, from now on and on every worker."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from extproc.cli.admin_client import DEFAULT, Admin, Token, post
from extproc.cli.options import Json, fail


def purge(
    *,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Everything with this tag; may be given again.", metavar="TAG"),
    ] = None,
    url: Annotated[str, typer.Option(help="Every variant of a URL, whoever it was for.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All there is.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Make stale: validated, or given in place of an error.")
    ] = False,
    admin: Admin = DEFAULT,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Make stored responses void, or with --soft stale.

    When the command ends no worker answers with them; other gateways on the same Redis follow
    within a second. Where they don't know yet, as Redis can't be used, it says so and ends with 1.
    """
    if not tag and not url and not everything:
        fail("extproc purge: expected --tag, --url or --all", 2)
    said: dict[str, Any] = {"tags": tag or [], "all": everything, "soft": soft}
    answer = post(admin, token, "/purge", said | ({"url": url} if url else {}), "workers")
    workers = answer["workers"]
    told = f"purged on {workers} worker{'' if workers == 1 else 's'}"
    typer.echo(json.dumps(answer) if as_json else told)
    if answer.get("shared") is False:
        problem = "other replicas aren't told yet: Redis can't be used there"
        fail(
            f"extproc purge: {problem}; they may answer with it until it does. Purge again then", 1
        )
