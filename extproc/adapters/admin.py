"""The administration interface over HTTP: health, readiness, status, metrics, reload."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from extproc.adapters import unix_sockets
from extproc.adapters.system import held
from extproc.core.addresses import EVERYWHERE, host_of, is_address, is_loopback
from extproc.core.errors import BadPurge
from extproc.core.revocation import BadRevocation
from extproc.core.values import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_JSON = "application/json"


class Administered(Protocol):
    """What the administration interface shows and does."""

    def ready(self) -> bool:
        """Say whether requests should be sent here."""

    def keys_missing(self) -> list[str]:
        """Return the authenticators whose keys were never loaded."""

    async def status(self) -> dict[str, Any]:
        """Return the state of everything."""

    async def metrics(self) -> bytes:
        """Return metrics in Prometheus's text format."""

    async def reload(self) -> dict[str, Any]:
        """Load the gateway file again; the result says `ok` and what happened."""

    async def revoke(self, said: dict[str, Any]) -> dict[str, Any]:
        """Revoke what is said.

        Raises:
            BadRevocation: it can't be understood.
        """

    async def purge(self, said: dict[str, Any]) -> dict[str, Any]:
        """Make stored responses void or stale.

        Raises:
            BadPurge: it can't be understood.
        """


class AdminServer:
    """Serves the interface on `host:port` or `unix:/path`.

    Args:
        address: where.
        token: what a change needs; None to make one, where commands find it.
        administered: what is shown and done.
    """

    def __init__(self, address: str, token: str | None, administered: Administered) -> None:
        self._address = self._named = address
        self._token = token
        self._held: int | None = None  # the folder of the token that was made
        self._administered = administered
        self._path: Path | None = None
        application = web.Application(middlewares=[self._guarded])
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
                web.post("/reload", self._reload),
                web.post("/revoke", self._revoke),
                web.post("/purge", self._purge),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)

    async def start(self) -> str:
        """Bind and serve.

        Returns:
            The address as bound, with the port that was chosen for port 0.

        Raises:
            OSError: the address can't be bound.
        """
        bound = await self._bound()
        if self._token is None:  # behind the binding: another gateway's there isn't replaced
            self._token = new_token(self._named)
            self._held = held(token_file(self._named).parent)
        return bound

    async def _bound(self) -> str:
        await self._runner.setup()
        if self._address.startswith("unix:"):
            path = Path(self._address.removeprefix("unix:"))
            bound = unix_sockets.bound(path)
            path.chmod(0o600)  # before anybody can connect
            await web.SockSite(self._runner, bound).start()
            self._path = path
            return self._address
        host, _, port = self._address.rpartition(":")
        await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
        self._address = f"{host}:{self._runner.addresses[0][1]}"
        return self._address

    async def stop(self) -> None:
        """Close."""
        await self._runner.cleanup()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._held is not None:
            token_file(self._named).unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let GETs through on loopback; everything else needs the token.

        A POST must also name this address as Host and send JSON, which a page in a browser
        can't make another site's visitor do. A GET without the token must not name a domain: a
        page can have its own name lead to loopback (DNS rebinding) and read what it asks for.
        """
        if request.method not in {"GET", "HEAD"}:
            if not self._is_named(request.host):
                return _problem(403, "Wrong host", "POST needs the admin address as Host.")
            if request.content_type != _JSON:
                return _problem(415, "Wrong content type", "POST needs application/json.")
        elif self._local() and not self._has_token(request):
            if not self._address.startswith("unix:") and not _is_local_name(request.host):
                detail = "Without the token, name the address or localhost as Host."
                return _problem(403, "Wrong host", detail)
            return await _handled(handler, request)
        if not self._has_token(request):
            return _unknown(sent="Authorization" in request.headers)
        return await _handled(handler, request)

    def _is_named(self, host: str) -> bool:
        """Say whether a Host header names this interface: loopback has several names.

        One on every address of a machine is reached by names that nobody knows here.
        """
        if self._address.startswith("unix:"):
            return host == "localhost"
        if host == self._address or host_of(self._address) in EVERYWHERE:
            return True
        port = self._address.rpartition(":")[2]
        return self._local() and host.rpartition(":")[2] == port and is_loopback(host_of(host))

    def _local(self) -> bool:
        return self._address.startswith("unix:") or is_loopback(host_of(self._address))

    def _has_token(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if self._token is None:  # it is being made
            return False
        return scheme.lower() == "bearer" and hmac.compare_digest(
            token.encode(errors="replace"), self._token.encode()
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready = self._administered.ready()
        text = "ready\n" if ready else "not ready\n"
        # The other issuers' callers are served, so this gateway isn't taken out of rotation.
        text += "".join(f"keys missing: {name}\n" for name in self._administered.keys_missing())
        return web.Response(text=text, status=200 if ready else 503)

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(await self._administered.status())

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await self._administered.metrics(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _reload(self, _request: web.Request) -> web.Response:
        result = await self._administered.reload()
        return _json(result, 200 if result["ok"] else 409)

    async def _revoke(self, request: web.Request) -> web.Response:
        try:
            said = orjson.loads(await request.read())
            if not isinstance(said, dict):
                return _problem(400, "Not a revocation", "expected a JSON object")
            return _json(await self._administered.revoke(said))
        except orjson.JSONDecodeError:
            return _problem(400, "Not a revocation", "expected JSON")
        except BadRevocation as error:
            return _problem(400, "Not a revocation", str(error))
        except OSError as error:
            return _problem(500, "Not written down", str(error.strerror))

    async def _purge(self, request: web.Request) -> web.Response:
        try:
            said = orjson.loads(await request.read())
            if not isinstance(said, dict):
                return _problem(400, "Not a purge", "expected a JSON object")
            return _json(await self._administered.purge(said))
        except orjson.JSONDecodeError:
            return _problem(400, "Not a purge", "expected JSON")
        except BadPurge as error:
            return _problem(400, "Not a purge", str(error))


def _is_local_name(host: str) -> bool:
    """Say whether a Host header, with or without a port, is an address or this machine's name."""
    name, _, port = host.rpartition(":")
    name = name if name and port.isdecimal() else host
    return name.lower() == "localhost" or is_address(name.removeprefix("[").removesuffix("]"))


async def _handled(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _problem(error.status, error.reason, "")


def _json(value: Any, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str) + b"\n"
    return web.Response(body=body, status=status, content_type=_JSON)


def _unknown(*, sent: bool) -> web.Response:
    """Refuse who has no token, or another one."""
    if sent:
        return _problem(401, "Wrong token", "The token isn't this gateway's.")
    return _problem(401, "Token required", "Send Authorization: Bearer TOKEN.")


def _problem(status: int, title: str, detail: str) -> web.Response:
    response = Response.problem(status, title, detail)
    response.bind("")
    return web.Response(
        body=response.body, status=status, content_type=response.headers["content-type"]
    )


def alike(address: str) -> list[str]:
    """Return the admin addresses by which a gateway that is reached at this one may be known.

    Args:
        address: `host:port` or `unix:/path`.
    """
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not is_loopback(host.strip("[]")):
        return [address]
    names = ("127.0.0.1", "localhost", "[::1]", *[f"[{h}]" if ":" in h else h for h in EVERYWHERE])
    return [address, *[f"{name}:{port}" for name in names if name != host]]


def token_file(address: str) -> Path:
    """Return where the token for an admin address is kept, so that commands find it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) if base else Path(f"/tmp/extproc-{os.getuid()}")  # noqa: S108 - 0700, owner checked
    return folder / f"extproc-{address.replace('/', '_').replace(':', '_')}.token"


def new_token(address: str) -> str:
    """Make a token and keep it where only this user can read it.

    Raises:
        OSError: the folder belongs to somebody else, or can't be written.
    """
    file, token = token_file(address), secrets.token_urlsafe(32)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.parent.stat().st_uid != os.getuid():
            raise PermissionError(0, "it belongs to another user")
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(token)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OSError(
            f"the token of the admin interface can't be kept in {file.parent}: {why}; give it one "
            "by admin.token, or set XDG_RUNTIME_DIR to a folder of this user's"
        ) from error
    return token
