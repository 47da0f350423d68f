"""`extproc token`: a signed JWT for trying things out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from extproc.cli.options import Json, fail
from extproc.cli.reading import Unreadable, content

_USAGE = 2


def token(
    *,
    issuer_key: Annotated[
        Path, typer.Option(help="The issuer's private key: PEM or JWK.", show_default=False)
    ],
    claim: Annotated[
        list[str] | None,
        typer.Option(
            help="The value is JSON if it can be read as such; repeat it.", metavar="NAME=VALUE"
        ),
    ] = None,
    kid: Annotated[str, typer.Option(help="The key's id; by default that of the JWK.")] = "",
    alg: Annotated[str | None, typer.Option(help="By default the key's usual one.")] = None,
    ttl: Annotated[str, typer.Option(help="From now to `exp`.")] = "1h",
    as_json: Json = False,
) -> None:
    """Print a token; `iat` is now and `exp` is --ttl later unless claimed otherwise.

    It is as good as any of the issuer's: who has its private key can be anybody.
    """
    from extproc.config.units import duration
    from extproc.offline.tokens import NotASigningKey, signed

    try:
        lifetime = duration(ttl)
    except ValueError as error:
        _usage(f"--ttl {error}")
    if not _is_text(kid):
        _usage(f"--kid {kid!r}: can't be written in UTF-8")
    now = int(time.time())
    claims = {"iat": now, "exp": now + round(lifetime)} | dict(map(_claim, claim or []))
    try:
        text, header = signed(content(issuer_key), claims, alg, kid)
    except Unreadable as error:
        _usage(str(error))
    except NotASigningKey as error:
        _usage(f"{issuer_key}: {error}")
    if as_json:
        typer.echo(json.dumps({"token": text, "header": header, "claims": claims}, indent=2))
        return
    typer.echo(text)


def _usage(message: str) -> NoReturn:
    fail(f"extproc token: {message}", _USAGE)


def _claim(text: str) -> tuple[str, object]:
    """Read `name=value`."""
    name, found, value = text.partition("=")
    if not found or not name:
        _usage(f"--claim {text!r}: expected name=value")
    try:
        read: object = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        read = value
    if not _is_text([name, read]):
        _usage(f"--claim {text!r}: can't be written in UTF-8")
    return name, read


def _is_text(value: object) -> bool:
    """Say whether a value can be written: half of a surrogate pair and bytes of the shell can't."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON; the name is a text then
