"""WebSockets through a real Envoy: bytes pass both ways, and none outlives its credential."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import bcrypt
import jwt as pyjwt
import pytest

from extproc.config.keys_file import made
from tests.e2e.test_reload import reload
from tests.support.processes import ROOT, Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
REST = """
upstreams: {{origin: {{endpoints: ['http://127.0.0.1:{port}']}}}}
authentication:
  shop: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}"}}}}
  keys: {{api_key: {{file: keys.jsonl}}}}
  ops: {{basic: {{file: users}}}}
  web: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}", cookie: sid}}}}
POLICY
routes:
  - {{name: page, match: {{path: /page, methods: any}}, upstream: origin, authentication: [web], authorization: own-pages, upgrade: [websocket]}}
  - {{name: open, match: {{path: /open}}, upstream: origin, authentication: none, upgrade: [websocket]}}
  - {{name: private, match: {{path: /private, methods: any}}, upstream: origin, authentication: [shop], upgrade: [websocket]}}
  - {{name: listed, match: {{path: /listed}}, upstream: origin, authentication: [keys, ops], upgrade: [websocket]}}
  - {{name: both, match: {{path: /both}}, upstream: origin, authentication: {{all: [shop, keys]}}, upgrade: [websocket]}}
"""


class _Origin(socketserver.StreamRequestHandler):
    """Switches protocols, then gives every byte back; answers 204 to what doesn't ask for it."""

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        if b"upgrade: websocket" not in head.lower():
            self.wfile.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            return
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        while data := self.rfile.read1(4096):
            self.wfile.write(data)


@pytest.fixture(scope="module", params=["local", "grpcio"])
def place(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """Run a gateway with each server."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Origin)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = REST.format(port=server.server_address[1], secret=SECRET)
    page = (ROOT / "docs" / "authentication.md").read_text()
    text = text.replace("POLICY", page[page.index("policies:\n  own-pages:") :].partition("```")[0])
    files = {"keys.jsonl": "", "users": ""}
    with gateway(text, files, options=("--server", request.param)) as running:
        yield running
    server.shutdown()
    server.server_close()


def bearer(seconds: float, **claims: Any) -> tuple[str, str]:
    """Return the header of a token that is good for so long."""
    now = int(time.time())
    usual = {"iss": "https://id.example", "aud": "shop", "sub": "alice", "iat": now - 5}
    text = pyjwt.encode(usual | {"exp": now + seconds} | claims, SECRET, "HS256")
    return "Authorization", f"Bearer {text}"


@contextmanager
def opened(place: Gateway, path: str, *headers: tuple[str, str]) -> Iterator[socket.socket]:
    """Switch protocols."""
    lines = [f"GET {path} HTTP/1.1", "Host: shop", "Connection: upgrade", "Upgrade: websocket"]
    lines += [f"{name}: {value}" for name, value in headers]
    with socket.create_connection(("127.0.0.1", place.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield connection


def echoes(connection: socket.socket, data: bytes) -> bool:
    """Say whether bytes come back; False where the connection was ended."""
    try:
        connection.sendall(data)
        got = b""
        while len(got) < len(data):
            piece = connection.recv(65536)
            if not piece:
                return False
            got += piece
    except ConnectionError:
        return False
    return got == data


def test_D4_bytes_pass_both_ways(place: Gateway) -> None:
    """D4: many and large ones, with and without a credential."""
    for path, headers in (("/open", ()), ("/private", (bearer(300),))):
        with opened(place, path, *headers) as connection:
            for size in (1, 100, 70_000, 1):
                assert echoes(connection, b"x" * size)


def test_what_follows_the_switch_is_no_body(place: Gateway) -> None:
    """However much passes in the end; a body on the same route has its limit."""
    for path, headers in (("/open", ()), ("/private", (bearer(300),))):
        with opened(place, path, *headers) as connection:
            for _ in range(40):
                assert echoes(connection, b"x" * 65_536)
        large = b"x" * (1 << 20) + b"x"
        assert place.ask(path, method="POST", headers=dict(headers), body=large).status == 413


def test_D4_none_opens_without_a_credential(place: Gateway) -> None:
    """D4: 401, and nothing reaches the upstream."""
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    for more in ({}, dict([bearer(-120)]), {"authorization": "Bearer x"}):
        assert place.ask("/private", headers=upgrade | more).status == 401
    assert place.ask("/private", headers=dict([bearer(300)])).status == 204


def test_D4_it_ends_when_the_token_does(place: Gateway) -> None:
    """D4: within a second or so; another's goes on, and so does one that nobody in particular opened."""
    with (
        opened(place, "/private", bearer(3)) as short,
        opened(place, "/private", bearer(300, sub="bob")) as long,
        opened(place, "/open") as public,
    ):
        assert echoes(short, b"hello")
        until(lambda: not echoes(short, b"still here?"), "it is ended", 10)
        assert echoes(long, b"hello")
        assert echoes(public, b"hello")


def test_J34_it_ends_when_the_token_is_revoked(place: Gateway) -> None:
    """J34: an open connection is no way around a revocation."""
    with (
        opened(place, "/private", bearer(300, jti="gone")) as gone,
        opened(place, "/private", bearer(300, jti="kept")) as kept,
    ):
        assert echoes(gone, b"hello")
        command = [sys.executable, "-m", "extproc", "revoke", "--jti", "gone"]
        command += ["--admin", f"127.0.0.1:{place.admin}"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        until(lambda: not echoes(gone, b"still here?"), "it is ended", 5)
        assert echoes(kept, b"hello")


def test_J34_it_ends_when_its_key_does(place: Gateway) -> None:
    """J34: at the moment that the keys file says; and a key or user that is taken out has ended."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
    kept, gone = _key("kept"), _key("gone")
    short = _key("short", expires=ends.isoformat(timespec="seconds"))
    users = {user: bcrypt.hashpw(user.encode(), bcrypt.gensalt(4)).decode() for user in ("a", "b")}
    _listed(place, [kept, gone, short], users)
    with ExitStack() as stack:
        held = {
            name: stack.enter_context(opened(place, "/listed", header))
            for name, header in (
                *((entry["id"], ("x-api-key", key)) for key, entry in (kept, gone, short)),
                *((user, ("authorization", _basic(user))) for user in users),
            )
        }
        assert all(echoes(one, b"hello") for one in held.values())
        _listed(place, [kept, short], {"a": users["a"]})
        for name in ("gone", "b", "short"):
            until(lambda one=held[name]: not echoes(one, b"?"), f"{name} is ended", 12)  # type: ignore[misc]
        assert time.time() >= ends.timestamp() - 1
        assert echoes(held["kept"], b"hello")
        assert echoes(held["a"], b"hello")


def test_pages_of_others_use_no_cookie(place: Gateway) -> None:
    """As the documentation says: neither a WebSocket nor a form of theirs is let through."""
    cookie = ("Cookie", "sid=" + bearer(300)[1].removeprefix("Bearer "))
    own, others = "https://shop.example.com", "https://shop.example.com.evil.test"
    with opened(place, "/page", cookie, ("Origin", own)) as connection:
        assert echoes(connection, b"x")
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    for more in ({}, upgrade):
        for origin, status in ((others, 403), ("null", 403), (own, 204)):
            if more and origin == own:
                continue
            headers = dict([cookie]) | more | {"origin": origin}
            method = "GET" if more else "POST"
            assert place.ask("/page", method=method, headers=headers).status == status
    assert place.ask("/page", headers=dict([cookie])).status == 204


def test_J34_it_ends_when_one_of_both_does(place: Gateway) -> None:
    """J34: of what `all` demands each counts, whether it says who is calling or not."""
    partner = _key("partner")
    _listed(place, [partner], {})
    key = ("x-api-key", partner[0])
    with (
        opened(place, "/both", bearer(4), key) as short,
        opened(place, "/both", bearer(300, jti="both"), key) as long,
    ):
        until(lambda: not echoes(short, b"x"), "the connection of the token that expired ends")
        assert echoes(long, b"x")
        command = [sys.executable, "-m", "extproc", "revoke", "--jti", "both"]
        command += ["--admin", f"127.0.0.1:{place.admin}"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        until(lambda: not echoes(long, b"x"), "the connection of the token that was revoked ends")


def _key(identifier: str, **fields: str) -> tuple[str, dict[str, Any]]:
    """Return a key, and its entry for the keys file."""
    return made(identifier, secrets.token_urlsafe(32), secrets.token_hex(16), fields)


def _basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{user}".encode()).decode()


def _listed(place: Gateway, keys: list[tuple[str, dict[str, Any]]], users: dict[str, str]) -> None:
    """Have these keys and users in force."""
    before = place.status()["version"]
    lines = "".join(json.dumps(entry) + "\n" for _, entry in keys)
    (place.folder / "keys.jsonl").write_text(lines)
    (place.folder / "users").write_text("".join(f"{u}:{kept}\n" for u, kept in users.items()))

    def in_force() -> bool:
        version: str = place.status()["version"]
        return version != before and reload(place)["version"] == version

    until(in_force, "keys and users are in force")
