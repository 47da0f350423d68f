"""Bytes out, bytes in: a client that sends what it is given, an upstream that keeps what it got."""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 15.0
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the upstream got it, text whose characters are bytes."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def names(self) -> list[str]:
        """Return the headers' names, as they were spelt, in lower case."""
        return [name.lower() for name, _ in self.headers]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client got; status 0 for a connection that was closed without an answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return a header's first value."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def reason(self) -> str:
        """Return a problem's reason."""
        assert self.header("content-type") == "application/problem+json", self
        return str(json.loads(self.body)["type"]).removeprefix("urn:extproc:")


class Upstream(socketserver.ThreadingTCPServer):
    """Reads HTTP/1.1 as leniently as it can, so that nothing is refused here instead of there."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.received: list[Received] = []

    @property
    def port(self) -> int:
        """Return where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks off is the other side's matter."""


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while (first := self.rfile.readline()).strip():
            method, _, rest = first.decode("latin-1").partition(" ")
            pairs = tuple(self._pairs())
            # The moment the head is there counts: a body may never come.
            got = Received(method, rest.rpartition(" HTTP/")[0], pairs, b"")
            cast("Upstream", self.server).received.append(got)
            body = self._body(got)
            if body:
                self._replace(got, Received(got.method, got.path, pairs, body))
            self.wfile.write(_ANSWER)

    def _replace(self, old: Received, new: Received) -> None:
        received = cast("Upstream", self.server).received
        for place, entry in enumerate(received):
            if entry is old:
                received[place] = new

    def _pairs(self) -> Iterator[tuple[str, str]]:
        while (line := self.rfile.readline()) not in {b"\r\n", b"\n", b""}:
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(":")
            yield name, value.strip(" \t")

    def _body(self, request: Received) -> bytes:
        if "chunked" in request.values("transfer-encoding"):
            return b"".join(self._chunks())
        length = request.values("content-length")
        return self.rfile.read(int(length[0])) if length else b""

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        yield from iter(self.rfile.readline, b"\r\n")  # a trailer would show in the body


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def exchange(port: int, data: bytes, *, method: str = "GET", seconds: float = _SECONDS) -> Answer:
    """Send bytes on a connection of their own and read one answer."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        # Refused before all of it was read, the answer may be there all the same.
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionResetError):
            return Answer(0)
        finally:
            response.close()
        return Answer(response.status, tuple(response.getheaders()), body)


def request(
    target: str | bytes,
    *headers: tuple[str, str],
    method: str = "GET",
    host: str = "shop.test",
    body: bytes = b"",
) -> bytes:
    """Return a request as bytes; text is latin-1, nothing is checked or added but a host."""
    path = target.encode("latin-1") if isinstance(target, str) else target
    lines = [("Host", host)] if host else []
    lines += headers
    if body and not {"content-length", "transfer-encoding"} & {n.lower() for n, _ in headers}:
        lines.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
    return method.encode() + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + body
