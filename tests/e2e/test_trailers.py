"""H17: what follows a body is no way to say what headers may not."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from tests.support.client import ask
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.shop.processes import Shop

Pairs = list[Any]
TRAILERS = [
    ("x-user", "root"),
    ("authorization", "Bearer evil"),
    ("x-gateway-assertion", "evil"),
    ("x-anything", "1"),
]
REST = """
decisions: {{file: records.jsonl}}
upstreams:
  greeter: {{endpoints: ['grpc://127.0.0.1:{port}']}}
  echo: {{endpoints: ['http://127.0.0.1:{echo}']}}
identity: {{headers: {{x-user: "{{principal.kind}}"}}}}
defaults: {{authentication: none}}
policies:
  small: {{rules: [{{name: small, allow: "request.body.total < 5"}}]}}
routes:
  - {{name: grpc, match: {{path: /grpc}}, upstream: greeter}}
  - {{name: judged, match: {{path: /judged}}, upstream: greeter, body: json, authorization: small}}
  - name: counted
    match: {{path: /counted}}
    upstream: greeter
    body: json
    authorization: small
  - {{name: seen, match: {{path: /seen}}, upstream: greeter, plugins: [{{use: "own.py:Seeing"}}]}}
  - name: hidden
    match: {{path: /hidden/*}}
    upstream: greeter
    plugins: [{{use: "own.py:Hiding"}}]
  - {{name: plain, match: {{path: /plain}}, upstream: echo, body: json, authorization: small}}
"""

OWN = """
from extproc import Plugin, Request, Response


class Seeing(Plugin):
    async def on_request(self, request: Request) -> None:
        request.headers["x-seen"] = "1"

    def on_request_body(self, request: Request, body: bytes) -> None:
        pass


class Hiding(Plugin):
    def on_response(self, request: Request, response: Response) -> None:
        del response.headers["x-internal"]

    def on_response_body(self, request: Request, response: Response, body: bytes) -> bytes:
        response.headers["x-read"] = str(len(body))
        return b"made" if request.path.endswith("made") else body
"""


class Recording:
    """An HTTP/2 server that answers 200, and keeps headers, bodies and trailers."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.headers: list[Pairs] = []
        self.trailers: list[Pairs] = []
        self.bodies: list[bytes] = []
        self._open: list[tuple[socket.socket, threading.Thread]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and end what is open."""
        self._listening.close()
        for connected, serving in self._open:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            serving.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            serving = threading.Thread(target=self._serve, args=[connected], daemon=True)
            self._open.append((connected, serving))
            serving.start()

    def _serve(self, connected: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        connected.sendall(connection.data_to_send())
        while data := _received(connected):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.headers.append(list(event.headers))
                elif isinstance(event, h2.events.DataReceived):
                    self.bodies.append(event.data)
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers.append(list(event.headers))
                elif isinstance(event, h2.events.StreamEnded):
                    sent: dict[str, Any] = dict(self.headers[-1])
                    self._answer(connection, event.stream_id, sent[":path"])
            connected.sendall(connection.data_to_send())
        connected.close()

    def _answer(self, connection: h2.connection.H2Connection, stream: int, path: str) -> None:
        if not path.startswith("/hidden"):
            connection.send_headers(stream, [(":status", "200")], end_stream=True)
            return
        fields = [(":status", "200"), ("x-internal", "1"), ("x-kept", "1")]
        if path.endswith("grpc"):
            fields.append(("content-type", "application/grpc"))
        connection.send_headers(stream, fields)
        if path.endswith("body"):
            connection.send_data(stream, b"said")
        connection.send_headers(stream, [("x-t", "1"), ("grpc-status", "5")], end_stream=True)


def _received(connected: socket.socket) -> bytes:
    try:
        return connected.recv(65_536)
    except OSError:
        return b""


def post(port: int, path: str, body: bytes, trailers: Sequence[tuple[str, str]]) -> str:
    """Send a body and trailers over HTTP/2; return the status."""
    config = h2.config.H2Configuration(header_encoding="utf-8")
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    fields = [
        (":method", "POST"), (":scheme", "http"), (":authority", "shop"), (":path", path),
        ("content-type", "application/json"),
    ]  # fmt: skip
    connection.send_headers(1, fields)
    if body:
        connection.send_data(1, body)
    connection.send_headers(1, trailers, end_stream=True)
    with socket.create_connection(("127.0.0.1", port), 10) as connected:
        connected.sendall(connection.data_to_send())
        while data := connected.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return str(dict[Any, Any](event.headers)[":status"])
            connected.sendall(connection.data_to_send())
    return "closed"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recording]:
    """Run the upstream."""
    recording = Recording()
    yield recording
    recording.close()


@pytest.fixture(scope="module")
def place(upstream: Recording, shop: Shop) -> Iterator[Gateway]:
    """Run the gateway."""
    text = REST.format(port=upstream.port, echo=shop.ports["echo"])
    with gateway(text, {"own.py": OWN}) as running:
        yield running


@pytest.mark.parametrize("path", ["/grpc", "/judged"])
def test_H17_trailers_of_a_request_are_dropped(
    place: Gateway, upstream: Recording, path: str
) -> None:
    """H17: the body arrives, the headers are the gateway's, and no trailer is there."""
    before = len(upstream.headers)
    assert post(place.port, path, b'{"total": 1}', TRAILERS) == "200"
    assert len(upstream.headers) == before + 1
    sent: dict[str, Any] = dict(upstream.headers[-1])
    assert not sent.keys() & {"x-user", "authorization", "x-gateway-assertion", "x-anything"}
    assert b"".join(upstream.bodies[-2:]).endswith(b'{"total": 1}')
    assert not [pair for pairs in upstream.trailers for pair in pairs]


@pytest.mark.parametrize("path", ["/counted", "/plain"])
def test_a_body_with_trailers_is_judged(place: Gateway, path: str) -> None:
    """As one without: by its whole, once, with one record."""
    assert post(place.port, path, b'{"total": 1}', [("x-t", "1")]) == "200"
    assert post(place.port, path, b'{"total": 7}', [("x-t", "1")]) == "401"
    until(lambda: len(decisions(place, path)) >= 2, "records")
    assert sorted(decisions(place, path)) == ["allow", "deny"]


@pytest.mark.parametrize("path", ["/judged", "/seen"])
def test_trailers_without_a_body_are_refused(
    place: Gateway, upstream: Recording, path: str
) -> None:
    """Of a request that is to be judged whole, with one record that says why."""
    before = len(upstream.headers)
    for _ in range(5):  # they come while the headers are looked at, or after
        assert post(place.port, path, b"", [("x-t", "1")]) == "400"
    assert len(upstream.headers) == before

    def reasons() -> list[str]:
        found = records_in(place.folder / "records.jsonl")
        return [one["reason"] for one in found if one["path"] == path and one["status"] == 400]

    until(lambda: len(reasons()) >= 5, "records")
    assert reasons() == ["body_absent"] * 5


def decisions(place: Gateway, path: str) -> list[str]:
    """Return what was decided about a path, a line each."""
    found = records_in(place.folder / "records.jsonl")
    return [record["decision"] for record in found if record["path"] == path]


@pytest.mark.parametrize(
    ("path", "size", "body"),
    [("/hidden/body", 4, b"said"), ("/hidden/nothing", 0, b""), ("/hidden/made", 0, b"made")],
)
def test_a_response_that_trailers_end_is_changed(
    place: Gateway, path: str, size: int, body: bytes
) -> None:
    """Where it is read whole, also if there is nothing to read."""
    for _ in range(3):
        answer = ask(place.port, path)
        assert answer.status == 200
        assert answer.headers["x-kept"] == "1"
        assert answer.headers["x-read"] == str(size)
        assert "x-internal" not in answer.headers
        assert answer.body == body


def test_a_status_of_grpc_stays_in_its_trailers(place: Gateway) -> None:
    """Where a call's only answer are headers and trailers; the headers are changed."""
    with grpc.insecure_channel(f"127.0.0.1:{place.port}") as channel:
        call: Any = channel.unary_unary("/hidden/grpc")
        with pytest.raises(grpc.RpcError) as failed:
            call(b"", timeout=10)
    assert isinstance(failed.value, grpc.Call)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    told = dict(failed.value.initial_metadata() or ())
    assert told["x-kept"] == "1"
    assert "x-internal" not in told
