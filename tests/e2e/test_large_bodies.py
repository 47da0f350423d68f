"""Large bodies and heads through a real Envoy: whose they are is told by the status."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.http2.limits import Limits
from extproc.config.build import assemble
from extproc.config.load import load
from tests.support.origin import Origin, Says, origin
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """version: 1
listener: {address: "127.0.0.1:PORT", max_request_bytes: 100MiB, max_response_bytes: 100MiB, compression: []}
admin: {address: "127.0.0.1:ADMIN"}
decisions: {file: records.jsonl}
upstreams: {origin: {endpoints: ["http://127.0.0.1:ORIGIN"]}}
defaults: {authentication: none}
routes:
  - {name: plain, match: {path: /plain}, upstream: origin}
  - {name: asked, match: {path: /asked}, upstream: origin, plugins: [{use: "whole.py:Asked", deadline: 5s}]}
  - {name: answered, match: {path: /answered}, upstream: origin, plugins: [{use: "whole.py:Answered", deadline: 5s}]}
  - {name: more, match: {path: /more}, upstream: origin, request: {headers: {set: {x-a: "1", x-b: "2"}}}}
  - {name: back, match: {path: /back}, upstream: origin, response: {headers: {set: {x-a: "1", x-b: "2"}}}}
"""
PLUGINS = """
from extproc import Plugin

class Asked(Plugin):
    def on_request_body(self, request, body):
        request.headers["x-size"] = str(len(body))

class Answered(Plugin):
    def on_response_body(self, request, response, body):
        response.headers["x-size"] = str(len(body))
"""
MIB = 1 << 20
FITS, TOO_LARGE = b"x" * (8 * MIB), b"x" * (Limits().message + MIB)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Origin]:
    """Run the upstream."""
    with origin() as running:
        yield running


@pytest.fixture(scope="module")
def place(upstream: Origin) -> Iterator[Gateway]:
    """Run the gateway."""
    text = TEXT.replace("ORIGIN", str(upstream.port))
    with gateway(text, {"whole.py": PLUGINS}, whole=True) as running:
        yield running


def posted(place: Gateway, path: str, body: bytes) -> bytes:
    """Send a body and return the answer, which may come before it is sent, to the end."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", place.port), timeout=20) as connection:
        sending = threading.Thread(target=sent, args=[connection, head + body])
        sending.start()
        answer = b""
        while b"}" not in answer and (data := connection.recv(65_536)):
            answer += data
        connection.shutdown(socket.SHUT_RDWR)
        sending.join()
    return answer


def sent(connection: socket.socket, data: bytes) -> None:
    """Send, as far as somebody takes it."""
    with suppress(OSError):
        connection.sendall(data)


def test_of_a_request(place: Gateway, upstream: Origin) -> None:
    """413 over the bound, as over any other; a route on which nobody sees it takes it."""
    assert place.ask("/asked", method="POST", body=FITS).status == 200
    assert upstream.came[-1].headers["x-size"] == str(len(FITS))
    answer = posted(place, "/asked", TOO_LARGE)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"urn:extproc:request_too_large" in answer
    assert place.ask("/plain", method="POST", body=TOO_LARGE).status == 200


def test_of_a_response(place: Gateway, upstream: Origin) -> None:
    """502 over the bound; the record doesn't name a status that the client never got."""
    upstream.says["/answered"] = Says(body=FITS)
    assert place.ask("/answered").headers["x-size"] == str(len(FITS))
    upstream.says["/answered"] = Says(body=TOO_LARGE)
    reply = place.ask("/answered")
    assert (reply.status, reply.reason) == (502, "upstream_too_large")

    def recorded() -> list[object]:
        records = records_in(place.folder / "records.jsonl")
        return [one["status"] for one in records if one["route"] == "answered"]

    until(lambda: len(recorded()) >= 2, "records")
    assert recorded() == [200, None]


def test_H8_more_headers_than_fit_with_ours(place: Gateway, upstream: Origin) -> None:
    """H8: 431 for a client's, 502 for an upstream's; either alone isn't over Envoy's bound."""
    many = {f"x-{n}": "1" for n in range(93)}
    assert place.ask("/plain", headers=many).status == 200
    reply = place.ask("/more", headers=many)
    assert (reply.status, reply.reason) == (431, "headers_too_large")
    upstream.says["/plain"] = upstream.says["/back"] = Says({f"x-{n}": "1" for n in range(95)})
    assert place.ask("/plain").status == 200
    reply = place.ask("/back")
    assert (reply.status, reply.reason) == (502, "upstream_too_large")


def test_check_warns(place: Gateway) -> None:
    """Of each size that some route can't take, with its place."""
    assembly = assemble(load(place.folder / "gateway.yaml", {}))
    requests, responses = map(str, assembly.warnings)
    assert requests.endswith(
        "gateway.yaml:2:59: listener.max_request_bytes: is more than route asked can see whole, "
        "expected 60MiB at most, or plugins with `streaming`"
    ), requests
    assert "max_response_bytes: is more than route answered can see whole" in responses
