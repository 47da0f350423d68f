"""WebSockets through a real Envoy: bytes pass both ways, and none outlives its credential."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from tests.support.processes import ROOT, Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
REST = """
upstreams: {{origin: {{endpoints: ['http://127.0.0.1:{port}']}}}}
authentication:
  shop: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}"}}}}
routes:
  - {{name: open, match: {{path: /open}}, upstream: origin, authentication: none, upgrade: [websocket]}}
  - {{name: private, match: {{path: /private, methods: any}}, upstream: origin, authentication: [shop], upgrade: [websocket]}}
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
    with gateway(text, options=("--server", request.param)) as running:
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
