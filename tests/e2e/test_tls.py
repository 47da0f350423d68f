"""TLS: certificates by server name, and the redirect from HTTP."""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.places import free_port
from tests.support.processes import gateway

if TYPE_CHECKING:
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
    with gateway(text, files, whole=True) as running:
        for name in ("a.example", "b.example"):
            ca = running.folder / f"{name[0]}.crt"
            assert asked(running.port, name, ca) == (200, "http/1.1")
        connection = http.client.HTTPConnection("127.0.0.1", redirect, timeout=10)
        connection.request("POST", "/x?y=1", headers={"Host": "a.example"})
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 308
        assert response.headers["location"] == f"https://a.example:{running.port}/x?y=1"
