"""What plugins may do, through a real Envoy."""

from __future__ import annotations

import gzip
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.shop.processes import Shop

PLUGINS = """
import asyncio, time
from pathlib import Path
from extproc import Plugin, Response

class Raw(Plugin):
    def on_request(self, request):
        return Response(200, {}, b"raw")

class Cookies(Plugin):
    def on_request(self, request):
        response = Response(201, {"content-type": "text/plain"}, b"two")
        response.headers.add("set-cookie", "a=1")
        response.headers.add("set-cookie", "b=2")
        return response

class Large(Plugin):
    def on_request(self, request):
        return Response(200, {"content-type": "application/json"}, b'"' + b"x" * 5_000_000 + b'"')

class AddsBody(Plugin):
    def on_request_body(self, request, body):
        return body or b"added"

class Pieces(Plugin):
    streaming = True
    def on_response(self, request, response):
        request.state.pieces = 0
    def on_response_body(self, request, response, body):
        request.state.pieces += 1
        return body.upper()

class Slow(Plugin):
    async def on_request(self, request):
        await asyncio.sleep(1.6)
        request.headers["x-slow"] = "1"

class Calls(Plugin):
    def on_start(self, services):
        self.call = services.call
    async def on_request(self, request):
        answer = await self.call("echo", "GET", "/called", headers=[("x-from", "plugin")])
        return Response(200, {"content-type": "application/json"}, answer.body)

class Blocks(Calls):
    async def on_request(self, request):
        if request.query:
            time.sleep(3600)
        return await super().on_request(request)

class Status(Plugin):
    def on_response(self, request, response):
        response.status = 418
        response.headers["x-code"] = response.code_details

class Wraps(Plugin):
    def on_response_body(self, request, response, body):
        return b"<" + body + b">"

class Empties(Plugin):
    def on_request(self, request):
        if request.query == "here":
            return Response(204, {"content-type": "text/plain"}, b"for nobody")
    def on_response(self, request, response):
        response.status = 204

class Ends(Plugin):
    file: str
    async def on_request(self, request):
        await asyncio.sleep(20)
    def on_finish(self, request, outcome):
        Path(self.file).write_text(repr(outcome.decision))
"""
NAMES = (
    *("Raw", "Cookies", "Large", "AddsBody", "Pieces"),
    *("Slow", "Calls", "Status", "Wraps", "Empties"),
)


@pytest.fixture(scope="module")
def running(shop: Shop) -> Iterator[Gateway]:
    """Run a gateway with a route for each plugin."""
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{shop.ports["echo"]}"]}}}}
defaults: {{authentication: none}}
routes:
"""
    for name in NAMES:
        text += f"""
  - name: {name.lower()}
    match: {{path: /{name}}}
    upstream: echo
    plugins: [{{use: "plugins.py:{name}", deadline: 3s}}]
"""
    with gateway(text, {"plugins.py": PLUGINS}) as started:
        yield started


def test_a_body_without_a_type(running: Gateway) -> None:
    """It stays without one; a local reply of Envoy's would say text/plain."""
    reply = running.ask("/Raw")
    assert (reply.status, reply.body) == (200, b"raw")
    assert "content-type" not in reply.headers


def test_several_cookies(running: Gateway) -> None:
    """Each in a header of its own."""
    with socket.create_connection(("127.0.0.1", running.port), 10) as connection:
        connection.sendall(b"GET /Cookies HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 201")
    assert received.lower().count(b"set-cookie:") == 2


@pytest.mark.parametrize(
    "asked",
    ["HEAD /Large", "HEAD /Raw", "HEAD /Wraps", "GET /Empties", "GET /Empties?here"],
)
def test_a_head_alone_has_no_body_behind_it(running: Gateway, asked: str) -> None:
    """Whatever a plugin gives it: a client would take that for its next response."""
    next_one = b"GET /nowhere HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), 10) as connection:
        connection.sendall(f"{asked} HTTP/1.1\r\nHost: shop\r\n\r\n".encode() + next_one)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    first, _, rest = received.partition(b"\r\n\r\n")
    assert rest.startswith(b"HTTP/1.1 404 ")
    lengths = {"HEAD /Large": b"5000002", "HEAD /Raw": b"3"}
    found = [line for line in first.lower().split(b"\r\n") if line.startswith(b"content-length")]
    assert found == ([b"content-length: " + lengths[asked]] if asked in lengths else [])


def test_a_large_answer_is_compressed(running: Gateway) -> None:
    """Five megabytes made by a plugin arrive whole."""
    assert len(running.ask("/Large").body) == 5_000_002
    reply = running.ask("/Large", headers={"Accept-Encoding": "gzip"})
    assert len(reply.body) < 100_000
    assert len(gzip.decompress(reply.body)) == 5_000_002


def test_a_body_can_be_added(running: Gateway) -> None:
    """Also to a request that had none."""
    assert running.ask("/AddsBody").json["body"] == "added"
    assert running.ask("/AddsBody", method="POST", body=b"own").json["body"] == "own"


def test_pieces_pass_as_they_come(running: Gateway) -> None:
    """A streaming plugin may change each."""
    reply = running.ask("/Pieces")
    assert reply.status == 200
    assert b'"METHOD": "GET"' in reply.body


def test_more_time_is_asked_for(running: Gateway) -> None:
    """A hook may wait longer than Envoy's message timeout, up to its deadline."""
    assert running.ask("/Slow").sent["x-slow"] == "1"


def test_calls_go_through_envoy(running: Gateway) -> None:
    """By the upstream's name; no plugin knows an address."""
    sent = running.ask("/Calls").json
    assert sent["path"] == "/called"
    assert ["x-from", "plugin"] in [[name.lower(), value] for name, value in sent["headers"]]


def test_who_blocked_once_can_still_call(echo: int) -> None:
    """Its hooks run in threads then; what they wait for is still the worker's."""
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes:
  - name: blocks
    match: {{path: /}}
    upstream: echo
    plugins: [{{use: "plugins.py:Blocks", deadline: 300ms}}]
"""
    with gateway(text, {"plugins.py": PLUGINS}) as running:
        assert running.ask("/").json["path"] == "/called"
        assert running.ask("/?blocks").status == 504
        refused = 503  # for the second in which the breaker is open
        reply = until(lambda: r if (r := running.ask("/")).status != refused else None, "a trial")
        assert reply.json["path"] == "/called"


def test_a_status_can_be_changed(running: Gateway) -> None:
    """And a plugin knows whose answer it sees."""
    reply = running.ask("/Status")
    assert (reply.status, reply.headers["x-code"]) == (418, "via_upstream")


def test_on_finish_runs_when_a_client_goes_away(echo: int, tmp_path: Path) -> None:
    """A disconnect ends the exchange, and every plugin hears of it."""
    file = tmp_path / "told"
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes:
  - name: ends
    match: {{path: /Ends}}
    upstream: echo
    plugins: [{{use: "plugins.py:Ends", with: {{file: "{file}"}}, deadline: 30s}}]
"""
    with gateway(text, {"plugins.py": PLUGINS}) as running:
        with socket.create_connection(("127.0.0.1", running.port), 10) as connection:
            connection.sendall(b"GET /Ends HTTP/1.1\r\nHost: shop\r\n\r\n")
            connection.settimeout(1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        until(file.exists, "it is told")
