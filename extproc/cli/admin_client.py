"""Talking to a running gateway's administration interface."""

from __future__ import annotations

import http.client
import json
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extproc.cli.options import fail, spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

Admin = Annotated[str, typer.Option(help="The gateway's admin address, host:port or unix:/path.")]
Token = Annotated[
    str,
    typer.Option(
        help="The admin token; by default the one that the gateway wrote down at its start.",
        envvar="EXTPROC_TOKEN",
        show_default=False,
    ),
]
DEFAULT = "127.0.0.1:9900"
_SECONDS = 30.0


class _Socket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def post(admin: str, token: str, path: str, said: Mapping[str, Any], expected: str) -> Any:
    """POST to the gateway and return its answer, or end with what is wrong.

    Args:
        admin: its admin address.
        token: as it was given; empty for the one that is written down.
        path: what is asked.
        said: what is sent.
        expected: what its answer holds.
    """
    spelled("--admin", admin)
    if not (token.isascii() and token.isprintable()):
        fail("--token holds what no header can", 2)
    headers = {
        "authorization": f"Bearer {token or _found(admin)}",
        "content-type": "application/json",
    }
    if not admin.startswith("unix:"):
        headers["host"] = admin
    try:
        with closing(_connection(admin)) as connection:
            connection.request("POST", path, json.dumps(said), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        fail(f"{admin} doesn't answer as a gateway's admin address: {error}")
    if not isinstance(answer, dict):
        fail(f"{admin} doesn't answer as a gateway's admin address: its JSON is no object")
    if response.status != http.HTTPStatus.OK:
        reason = answer.get("detail") or answer.get("title") or answer.get("error")
        status = 2 if response.status == http.HTTPStatus.BAD_REQUEST else 1
        fail(f"refused: {reason or f'status {response.status}, is {admin} a gateway?'}", status)
    if expected not in answer:
        fail(f"{admin} doesn't answer as a gateway's admin address: nothing says `{expected}`")
    return answer


def _connection(admin: str) -> http.client.HTTPConnection:
    if admin.startswith("unix:"):
        return _Socket(admin.removeprefix("unix:"))
    return http.client.HTTPConnection(admin, timeout=_SECONDS)


def _found(admin: str) -> str:
    """Return the token of a gateway that this user runs."""
    from extproc.adapters.admin import alike, token_file

    for file in map(token_file, alike(admin)):
        try:
            token, owner = file.read_text(), file.stat().st_uid
        except (OSError, ValueError):
            continue
        if owner == os.getuid():
            return token
        fail(f"{file} belongs to another user")
    return fail(f"no token for {admin} (no gateway of yours there?): use --token")
