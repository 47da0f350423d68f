"""TLS: certificates by server name, and the redirect from HTTP."""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.attacks.wire import running
from tests.support.places import free_port
from tests.support.processes import gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def certificate(name: str) -> tuple[str, str]:
    """Return a self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


TEXT = """
version: 1
listener:
  address: 127.0.0.1:PORT
  redirect: 127.0.0.1:{redirect}
  tls:
    certificate: a.crt
    private_key: a.key
    sni: [{{hosts: [b.example], certificate: b.crt, private_key: b.key}}]
admin: {{address: "127.0.0.1:ADMIN"}}
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""


def asked(port: int, name: str, ca: Path) -> tuple[int, str]:
    """Make a verified HTTPS request to 127.0.0.1 under a name; return status and protocol."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["http/1.1"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.connect()
    secure = context.wrap_socket(connection.sock, server_hostname=name)
    connection.sock = secure
    protocol = secure.selected_alpn_protocol() or ""
    connection.request("GET", "/x", headers={"Host": name})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, protocol


def test_certificates_by_name_and_a_redirect(echo: int) -> None:
    """Each name gets its certificate, others the default; HTTP is sent to HTTPS."""
    redirect = free_port()
    (a_crt, a_key), (b_crt, b_key) = certificate("a.example"), certificate("b.example")
    files = {"a.crt": a_crt, "a.key": a_key, "b.crt": b_crt, "b.key": b_key}
    text = TEXT.format(echo=echo, redirect=redirect)
    with gateway(text, files, whole=True) as place:
        for name in ("a.example", "b.example"):
            ca = place.folder / f"{name[0]}.crt"
            assert asked(place.port, name, ca) == (200, "http/1.1")
        connection = http.client.HTTPConnection("127.0.0.1", redirect, timeout=10)
        connection.request("POST", "/x?y=1", headers={"Host": "a.example"})
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 308
        assert response.headers["location"] == f"https://a.example:{place.port}/x?y=1"


@contextmanager
def https_upstream(folder: Path) -> Iterator[int]:
    """Serve "secure" over HTTPS as up.example; give the port."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"secure")

        def log_message(self, *_arguments: object) -> None:
            return

    for name, text in zip(("up.crt", "up.key"), certificate("up.example"), strict=True):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "up.crt", folder / "up.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield server.server_port


@pytest.mark.parametrize(
    ("tls", "status"),
    [
        ("{ca: up.crt, sni: up.example}", 200),
        ("{ca: up.crt, sni: other.example}", 502),
        ("{ca: other.crt, sni: up.example}", 502),
        ("{sni: up.example}", 502),
        ("{verify: false}", 200),
    ],
)
def test_upstreams_are_verified(tls: str, status: int, tmp_path: Path) -> None:
    """Name and chain, unless the file says otherwise out loud."""
    with https_upstream(tmp_path) as port:
        text = f"""
upstreams: {{up: {{endpoints: ["https://127.0.0.1:{port}"], tls: {tls}}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: up}}]
"""
        files = {
            "up.crt": (tmp_path / "up.crt").read_text(),
            "other.crt": certificate("up.example")[0],
        }
        with gateway(text, files) as place:
            assert place.ask("/x").status == status
