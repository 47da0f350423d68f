"""An upstream whose answers a test sets, and which remembers what reached it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True)
class Says:
    """What the origin answers on a path.

    Attributes:
        headers: of the answer.
        status: of the answer.
        body: None for how many requests for this path came.
        gate: waited for before the answer.
        pieces: sent one by one, chunked, each after `between`.
        between: waited for between pieces.
        interim: bytes sent before the answer.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    gate: threading.Event | None = None
    pieces: tuple[bytes, ...] = ()
    between: threading.Event | None = None
    interim: bytes = b""


@dataclass(frozen=True, slots=True)
class Came:
    """A request that reached the origin; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


class Origin:
    """A running origin.

    Attributes:
        port: where it listens.
        says: by path and query; a path alone stands for every query.
        came: every request, in order.
        most: how many were under way at once, by path.
    """

    def __init__(self) -> None:
        self.port = 0
        self.says: dict[str, Says | Callable[[Came], Says]] = {}
        self.came: list[Came] = []
        self.most: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, path: str) -> int:
        """Return how many requests for a path came."""
        return sum(came.target.partition("?")[0] == path for came in list(self.came))

    def answer(self, came: Came) -> tuple[Says, int]:
        """Take a request; return its answer, and how many for its path came."""
        path = came.target.partition("?")[0]
        with self._lock:
            self.came.append(came)
            self._under_way[path] += 1
            self.most[path] = max(self.most[path], self._under_way[path])
            number = self.count(path)
        says = self.says.get(came.target) or self.says.get(path) or Says()
        return (says if isinstance(says, Says) else says(came)), number

    def done(self, came: Came) -> None:
        """A request was answered."""
        with self._lock:
            self._under_way[came.target.partition("?")[0]] -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        fields = {name.lower(): value for name, value in self.headers.items()}
        came = Came(self.command, self.path, fields)
        says, number = self.server.origin.answer(came)
        try:
            if says.gate is not None:
                says.gate.wait(20)
            self._send(says, str(number).encode() if says.body is None else says.body)
        finally:
            self.server.origin.done(came)

    def _send(self, says: Says, body: bytes) -> None:
        self.wfile.write(says.interim)
        self.send_response(says.status)
        for name, value in says.headers.items():
            self.send_header(name, value)
        if says.pieces:
            self._send_pieces(says)
            return
        none = says.status in {204, 304}
        if not none:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if not none and self.command != "HEAD":
            self.wfile.write(body)

    def _send_pieces(self, says: Says) -> None:
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in says.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            if says.between is not None:
                says.between.wait(20)
        self.wfile.write(b"0\r\n\r\n")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    origin: Origin

    def handle_error(self, *_arguments: Any) -> None:
        """A client that went away is no news."""


@contextmanager
def origin() -> Iterator[Origin]:
    """Run an origin until the end of the block."""
    running = Origin()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.origin = running
    running.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
