"""`extproc explain`: one request through every plugin, offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from extproc.cli.options import GatewayFile, Json, assembled, fail
from extproc.cli.reading import Unreadable, content, lines

if TYPE_CHECKING:
    from extproc.offline.document import Plain

_USAGE = 2


def explain(
    gateway: GatewayFile,
    method: Annotated[
        str | None, typer.Argument(help="For example GET.", metavar="METHOD", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Argument(help="A path or a URL, sent as written.", metavar="URL", show_default=False),
    ] = None,
    *,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="'name: value'; repeat it.", metavar="HEADER"),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            help="A file with a raw request, in place of METHOD and URL; - for standard input."
        ),
    ] = None,
    body: Annotated[Path | None, typer.Option(help="A file with the request's body.")] = None,
    address: Annotated[str, typer.Option(help="Where the connection comes from.")] = "127.0.0.1",
    response: Annotated[
        Path | None, typer.Option(help="A file with a raw response: would it be stored, and why?")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option("--id", help="Explain a recorded request in place of a new one.")
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="Decision records that hold it, one JSON line each; - as well."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what each plugin saw, decided and changed, and why.

    Nothing is sent and nothing is called. Credentials are hidden. Where an issuer's keys are not on
    disk, a token's claims are judged and its signature is not checked.
    """
    recorded = request_id is not None or decisions is not None
    ways = [recorded, request is not None, method is not None]
    if sum(ways) != 1:
        _usage("expected METHOD and URL, or --request FILE, or --id with --decisions")
    if recorded:
        told = _recorded(gateway, request_id, decisions)
    else:
        from extproc.core.addresses import is_address

        if not is_address(address):
            _usage(f"--address {address}: expected an IP address such as 192.0.2.1")
        raw = _raw(method, url, header or [], request, body)
        told = _told(gateway, raw, address, _content(response) if response else None)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    from extproc.cli.showing import show, show_recorded

    (show_recorded if recorded else show)(told)
    stored = told.get("response")
    for line in stored if isinstance(stored, list) else ():
        typer.echo(f"response: {line}")


def _usage(message: str) -> NoReturn:
    fail(f"extproc explain: {message}", _USAGE)


def _raw(
    method: str | None, url: str | None, headers: list[str], request: Path | None, body: Path | None
) -> bytes:
    from extproc.offline.asked import NotARequest, as_sent, header, request_bytes

    sent = _content(body) if body is not None else None
    if request is not None:
        if headers:
            _usage("--header belongs to METHOD and URL, a --request FILE has its own")
        return as_sent(_content(request)) + (sent or b"")
    if method is None or url is None:
        _usage("METHOD needs a URL")
    try:
        return request_bytes(method, url, [header(line) for line in headers], sent)
    except NotARequest as error:
        _usage(str(error))


def _content(path: Path) -> bytes:
    try:
        return content(path)
    except Unreadable as error:
        _usage(str(error))


def _told(gateway: Path, raw: bytes, address: str, response: bytes | None) -> Plain:
    import asyncio

    from extproc.core.errors import ConfigFault
    from extproc.offline.explain import explain as explained
    from extproc.offline.stored import NotAResponse

    try:
        now = time.time()
        return asyncio.run(explained(assembled(gateway), raw, address, now, response))
    except ConfigFault as error:
        fail(error)
    except NotAResponse as error:
        _usage(str(error))


def _recorded(gateway: Path, request_id: str | None, decisions: Path | None) -> Plain:
    from extproc.offline.recorded import NotRecorded, explained, found

    if request_id is None or decisions is None:
        _usage("--id and --decisions belong together")
    assembly = assembled(gateway)
    try:
        return explained(assembly, found(lines(decisions), request_id))
    except Unreadable as error:
        _usage(str(error))
    except NotRecorded as error:
        fail(f"extproc explain: {error}")
