"""The local server behind a real Envoy, and under other clients than ours."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import http.client
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest

from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, Gateway, gateway, head, service
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGINS = """
import asyncio
from extproc import Plugin, Response

RUNNING = 0

class Waits(Plugin):
    async def on_request(self, request):
        global RUNNING
        RUNNING += 1
        try:
            await asyncio.sleep(30)
        finally:
            RUNNING -= 1

class Says(Plugin):
    def on_request(self, request):
        return Response.json({"running": RUNNING})

class Pieces(Plugin):
    streaming = True
    def on_request_body(self, request, body):
        return body
"""
ROUTES = """
defaults: {{authentication: none}}
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
routes:
  - {{name: quick, match: {{path: /quick}}, upstream: echo}}
  - {{name: waits, match: {{path: /waits}}, upstream: echo, plugins: [{{use: "own.py:Waits", deadline: 20s}}]}}
  - {{name: says, match: {{path: /says}}, upstream: echo, plugins: [{{use: "own.py:Says"}}]}}
  - {{name: pieces, match: {{path: /pieces}}, upstream: echo, plugins: [{{use: "own.py:Pieces"}}]}}
"""


@pytest.fixture
def place(echo: int) -> Iterator[Gateway]:
    """Run a gateway with two workers."""
    with gateway(ROUTES.format(echo=echo), {"own.py": PLUGINS}, workers=2) as running:
        yield running


def listening(pid: int) -> set[str]:
    """Return the TCP addresses on which a process listens, as the kernel writes them."""
    sockets = {
        match[1]
        for fd in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.match(r"socket:\[(\d+)\]", str(fd.readlink())))
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1])
    return found


def test_the_workers_are_not_reachable_from_the_network(place: Gateway) -> None:
    """D1: no TCP port at all, and sockets in a folder that nobody else may enter."""
    for pid in place.workers():
        assert listening(pid) == set()
    assert listening(place.process.pid), "the control: the supervisor's admin port is found"
    folder = Path(
        re.findall(
            r"unix:(/[^\"]+)/w0",
            Path(f"/proc/{place.workers()[0]}/cmdline").read_text().replace("\0", " "),
        )[0]
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class Http2:
    """A client of the listener that opens streams and resets them."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.port = port

    def open(self, path: str, *, end: bool = True) -> int:
        """Begin a request."""
        stream: int = self.h2.get_next_available_stream_id()
        fields = [(":method", "GET" if end else "POST"), (":scheme", "http"), (":path", path)]
        self.h2.send_headers(stream, [*fields, (":authority", f"127.0.0.1:{self.port}")], end)
        return stream

    def flush(self) -> None:
        """Send."""
        self.socket.sendall(self.h2.data_to_send())

    def close(self) -> None:
        """Go away."""
        self.socket.close()


def test_clients_that_reset_right_after_their_headers(place: Gateway) -> None:
    """D2: hooks are cancelled, nothing is left, others are served all the while."""
    refused = 0
    for _ in range(40):
        client = Http2(place.port)
        try:
            for _ in range(50):
                client.h2.reset_stream(client.open("/waits"))
            client.flush()
            for _ in range(20):
                client.open("/waits")
            client.flush()
        except OSError:
            refused += 1  # Envoy's own limit on premature resets
        client.close()
        assert place.ask("/quick").status == 200
    # Each of the two workers says how many of its own run.
    until(lambda: all(place.ask("/says").json["running"] == 0 for _ in range(8)), "no hook is left")
    assert place.status()["workers"][0]["restarts"] == 0
    assert place.ask("/quick").status == 200


def test_slow_headers_and_bodies_hold_up_nobody_else(place: Gateway) -> None:
    """D3: connections that send a byte now and then; the exchanges they hold cost others nothing."""
    slow = []
    for number in range(100):
        connection = socket.create_connection(("127.0.0.1", place.port), 10)
        connection.sendall(b"POST /pieces HTTP/1.1\r\nhost: x\r\n")
        if number % 2:
            connection.sendall(b"content-length: 1000\r\n\r\nx")
        slow.append(connection)
    for turn in range(5):
        for number, connection in enumerate(slow):
            connection.sendall(b"x" if number % 2 else b"x-%d: 1\r\n" % turn)
        for _ in range(10):
            assert place.ask("/quick", seconds=5).status == 200
    for connection in slow:
        connection.close()
    assert place.ask("/pieces", method="POST", body=b"whole").status == 200


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load(echo: int) -> None:
    """The load generator of nghttp2: unary calls over a Unix socket, all answered."""
    with short_folder() as folder:
        file = folder / "gateway.yaml"
        (folder / "own.py").write_text(PLUGINS)
        file.write_text(head(free_port(), free_port()) + ROUTES.format(echo=echo))
        (folder / "body").write_bytes(b"\0\0\0\0\0")
        with service(file, f"unix:{folder}/s"):
            command = ["h2load", "-n", "3000", "-c", "4", "-m", "25", "-d", f"{folder}/body"]
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            command += ["-B", f"unix:{folder}/s", "http://x/grpc.health.v1.Health/Check"]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "3000 done, 3000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout


def test_serve_chooses_the_server_by_the_address() -> None:
    """Local for this host, grpcio for others; asked for where it can't be, it says why."""

    def refused(*options: str) -> str:
        command = [str(ROOT / ".venv/bin/extproc"), "serve", "examples/shop/gateway.yaml", *options]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
        )
        assert done.returncode == 2, done.stderr
        return done.stderr

    said = refused("--server", "local", "--listen", "0.0.0.0:9000")
    assert "this host alone" in said
    assert "--server grpcio" in said
    assert "expected local or grpcio" in refused("--server", "other", "--listen", "unix:/x")
    tls = ("--tls-cert", "c", "--tls-key", "k")
    assert "no TLS" in refused("--server", "local", "--listen", "127.0.0.1:9000", *tls)
    polling = ("--server", "grpcio", "--listen", "unix:/x", "--busy-poll", "500")
    assert "for the local server" in refused(*polling)


def test_what_serves_is_said(echo: int) -> None:
    """In the log, so that nobody has to guess."""
    with short_folder() as folder:
        file = folder / "gateway.yaml"
        (folder / "own.py").write_text(PLUGINS)
        file.write_text(head(free_port(), free_port()) + ROUTES.format(echo=echo))
        for listen, server in ((f"unix:{folder}/s", "local"), (f"0.0.0.0:{free_port()}", "grpcio")):
            with service(file, listen):
                said = (folder / "serve.log").read_text()
            assert f'"server":"{server}"' in said


@pytest.mark.parametrize("microseconds", [0, 10_000])
def test_busy_polling(echo: int, microseconds: int) -> None:
    """A worker whose client asks again at once doesn't sleep; when the client has gone, it does."""
    options = ("--busy-poll", str(microseconds))
    with gateway(ROUTES.format(echo=echo), {"own.py": PLUGINS}, options=options) as running:
        (worker,) = running.workers()
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)

        def slept() -> int:
            """Return how often it did for thirty requests."""
            before = _sleeps(worker)
            for _ in range(30):
                connection.request("GET", "/quick")
                reply = connection.getresponse()
                assert reply.status == 200
                reply.read()
            return _sleeps(worker) - before

        if microseconds:
            until(lambda: slept() < 10, "it stays awake")
        else:
            assert all(slept() >= 30 for _ in range(3))
        connection.close()
        until(lambda: _state(worker) == "S", "it sleeps")


def _sleeps(pid: int) -> int:
    """Return how often a process's main thread has gone to sleep."""
    lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("voluntary_ctxt_switches")]
    return int(line.split()[1])


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[0]
