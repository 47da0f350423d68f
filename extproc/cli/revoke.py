"""`extproc revoke`: credentials that are no longer good, from now on and on every worker."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from extproc.cli.admin_client import DEFAULT, Admin, Token, post
from extproc.cli.options import Json, fail


def revoke(
    *,
    jti: Annotated[str, typer.Option(help="The id (`jti`) of one token.")] = "",
    subject: Annotated[
        str, typer.Option(help="Everything of a subject until now; an API key by its id.")
    ] = "",
    before: Annotated[
        str, typer.Option(help="Every token issued until this moment; `now` for all.")
    ] = "",
    authenticator: Annotated[
        str, typer.Option(help="Only what this authenticator accepts; by default all.")
    ] = "",
    keep: Annotated[
        str,
        typer.Option(
            "--for", help="How long it must hold, at least as long as tokens live; 30d, or 400d."
        ),
    ] = "",
    admin: Admin = DEFAULT,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Refuse a token, a subject, or all tokens until a moment.

    When the command ends every worker refuses them, also where the answer is cached. With a shared
    store other replicas do within a second; it exits with 1 if they can't be told yet, and they are
    told later.
    """
    if sum(map(bool, (jti, subject, before))) != 1:
        fail("extproc revoke: expected one of --jti, --subject and --before", 2)
    said = {"token": jti, "subject": subject, "before": before}
    said |= {"authenticator": authenticator, "for": keep}
    filled = {name: value for name, value in said.items() if value}
    answer = post(admin, token, "/revoke", filled, "until")
    typer.echo(json.dumps(answer) if as_json else f"revoked, until {answer['until']}")
    if answer.get("shared") is False:
        fail("extproc revoke: other replicas aren't told yet: Redis can't be used there", 1)
