"""A real introspection server for tests: says what a test wrote down."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote

if TYPE_CHECKING:
    from types import TracebackType


class IntrospectionServer:
    """Answers about tokens.

    Attributes:
        answers: by token: JSON values, raw bytes, or a status for a failure.
        questions: every token that was asked about.
        last: the last question as it came.
        refused: how many questions came without the right name and password.
    """

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.answers: dict[str, Any] = {}
        self.questions: list[str] = []
        self.last = ""
        self.refused = 0
        pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
        self.wanted = "Basic " + base64.b64encode(pair.encode()).decode()
        outer = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.last = self.rfile.read(int(self.headers["content-length"])).decode()
                status, body = outer.answered(outer.last, self.headers["authorization"])
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)

    def answered(self, question: str, authorization: str | None) -> tuple[int, bytes]:
        """Return status and body."""
        if authorization != self.wanted:
            self.refused += 1
            return 401, b"{}"
        (token,) = parse_qs(question)["token"]
        self.questions.append(token)
        answer = self.answers.get(token, {"active": False})
        if isinstance(answer, bytes):
            return 200, answer
        if isinstance(answer, int):
            return answer, b"{}"
        return 200, json.dumps(answer).encode()

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
