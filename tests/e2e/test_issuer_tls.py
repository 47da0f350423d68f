"""An issuer whose certificate an authority of one's own made: trusted where its file is named."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.attacks.minting import jwk, token
from tests.attacks.wire import running
from tests.support.certificates import made
from tests.support.processes import gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = """
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
authentication:
  shop: {{jwt: {{issuer: "http://issuer.test", audiences: [shop], jwks_uri: "https://localhost:{port}/", cooldown: 1s}}}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo, authentication: [shop]}}]
"""


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"keys": [jwk("rsa")]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: Any) -> None:
        """A client that doesn't trust it is no news."""


@contextmanager
def issuer(folder: Path) -> Iterator[int]:
    """Serve keys over TLS; the authority's certificate is `ca.crt` in the folder."""
    authority = made("authority")
    own = made("localhost", authority)
    (folder / "ca.crt").write_text(authority.pem)
    (folder / "own.pem").write_text(own.pem + own.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "own.pem")
    server = _Server(("127.0.0.1", 0), _Keys)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    with running(server):
        yield server.server_port


@pytest.mark.parametrize(("named", "status"), [(True, 200), (False, 503)])
def test_an_authority_of_ones_own(tmp_path: Path, echo: int, named: bool, status: int) -> None:  # noqa: FBT001 - as pytest gives it
    """By `SSL_CERT_FILE`, as for other programs; without it nothing that it signed is trusted."""
    environment = {"SSL_CERT_FILE": str(tmp_path / "ca.crt")} if named else {}
    with issuer(tmp_path) as port:
        text = TEXT.format(echo=echo, port=port)
        with gateway(text, environment=environment) as place:
            headers = {"authorization": f"Bearer {token()}"}
            until(lambda: place.ask("/", headers=headers).status == status, str(status))
