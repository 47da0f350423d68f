"""The scheme that policies read is the listener's, whatever a client says over HTTP/2."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hpack import Decoder

from extproc.adapters.http2 import frames
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.frames import Flag, Kind
from tests.attacks.wire import Upstream, exchange, request, running
from tests.support.processes import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:UPSTREAM"]}}
defaults: {authentication: none}
policies:
  tls: {rules: [{name: tls, allow: 'request.scheme == "https"'}]}
  plain: {rules: [{name: plain, allow: 'request.scheme == "http"'}]}
routes:
  - {name: tls, match: {path: /tls}, upstream: echo, authorization: tls}
  - {name: plain, match: {path: /plain}, upstream: echo, authorization: plain}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Gateway]:
    """Run a gateway without TLS."""
    upstream = Upstream()
    with running(upstream), gateway(TEXT.replace("UPSTREAM", str(upstream.port))) as started:
        yield started


def status(port: int, scheme: str, path: str, *more: tuple[bytes, bytes]) -> int:
    """Make a request over HTTP/2 with prior knowledge; return its answer's status, 0 for none."""
    fields = [
        (b":method", b"GET"),
        (b":scheme", scheme.encode()),
        (b":authority", b"shop.test"),
        (b":path", path.encode()),
        *more,
    ]
    asked = frames.frame(
        Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, b"\x20" + literal(fields)
    )
    decoder, rest = Decoder(), b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(frames.PREFACE + frames.settings({}) + asked)
        while data := connection.recv(1 << 16):
            rest += data
            while len(rest) >= frames.HEADER_SIZE:
                word, _, stream = frames.HEADER.unpack_from(rest)
                end = frames.HEADER_SIZE + (word >> 8)
                if len(rest) < end:
                    break
                kind, payload, rest = word & 255, rest[frames.HEADER_SIZE : end], rest[end:]
                if (kind, stream) == (Kind.HEADERS, 1):
                    return int(dict(decoder.decode(payload, raw=True))[b":status"])
                if (kind, stream) == (Kind.RST_STREAM, 1):
                    return 0
    return 0


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS", "ftp", "wss"])
@pytest.mark.parametrize("more", [(), ((b"x-forwarded-proto", b"https"),)])
def test_a_client_does_not_choose_its_scheme(
    place: Gateway, scheme: str, more: tuple[tuple[bytes, bytes], ...]
) -> None:
    """A rule for TLS denies on a listener without, and the other way round."""
    assert status(place.port, scheme, "/tls", *more) == 401
    assert status(place.port, scheme, "/plain", *more) == 200


def test_nor_over_http_1(place: Gateway) -> None:
    """By a header, or by an absolute target."""
    forwarded = ("X-Forwarded-Proto", "https")
    assert exchange(place.port, request("/tls", forwarded)).status == 401
    assert exchange(place.port, request("/plain", forwarded)).status == 200
    assert exchange(place.port, request("https://shop.test/tls")).status in {400, 401}
