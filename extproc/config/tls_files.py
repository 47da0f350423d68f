"""Files of TLS that can't be used: Envoy would refuse them later, and say so in its own log."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.config.checks import Found
    from extproc.config.schema import Gateway
    from extproc.config.source import Key


def unusable(gateway: Gateway) -> Iterator[Found]:
    """Name every certificate, key and CA file that TLS can't be had with."""
    tls, key = gateway.listener.tls, ("listener", "tls")
    if tls is not None:
        yield from _pair(tls.certificate, tls.private_key, key)
        for number, named in enumerate(tls.sni):
            yield from _pair(named.certificate, named.private_key, (*key, "sni", number))
        yield from _authorities(tls.client_ca, (*key, "client_ca"))
    for name, upstream in gateway.upstreams.items():
        if upstream.tls is not None:
            yield from _authorities(upstream.tls.ca, ("upstreams", name, "tls", "ca"))


def _pair(certificate: str, private_key: str, key: Key) -> Iterator[Found]:
    try:
        chain = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
    except (OSError, ValueError):
        yield (*key, "certificate"), "holds no certificate that can be read", "expected PEM"
        return
    try:
        own = load_pem_private_key(Path(private_key).read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        problem = "holds no private key that can be read"
        yield (*key, "private_key"), problem, "expected PEM, not encrypted"
        return
    if own.public_key() != chain[0].public_key():
        problem = "isn't the key of the certificate"
        yield (*key, "private_key"), problem, "expected that of the chain's first"


def _authorities(file: str | None, key: Key) -> Iterator[Found]:
    if file is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError:  # an error of TLS is one
        yield key, "holds no certificate that can be read", "expected PEM"
