"""Processes that benchmarks start: each ends with a stack."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.adapters.envoy_binary import binary

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

_READY_WITHIN = 30.0


def process(stack: ExitStack, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a process that ends with the stack."""
    started = subprocess.Popen(command, text=True, **options)

    def end() -> None:
        started.terminate()
        started.wait(20)

    stack.callback(end)
    return started


def announced(started: subprocess.Popen[str]) -> int:
    """Return the port that a process says as its first line."""
    assert started.stdout is not None  # noqa: S101 - it was asked for
    return int(started.stdout.readline())


def start_origin(stack: ExitStack) -> int:
    """Start the upstream; return its port."""
    command = [sys.executable, str(Path(__file__).with_name("origin.py"))]
    return announced(process(stack, command, stdout=subprocess.PIPE))


def issuer(stack: ExitStack) -> tuple[str, int]:
    """Return a token and the port of its keys."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k"}
    document = json.dumps({"keys": [public]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_arguments: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    claims = {
        "iss": "http://bench",
        "aud": "bench",
        "sub": "alice",
        "scope": "read write",
        "exp": int(time.time()) + 3600,
    }
    return jwt.encode(claims, key, "RS256", {"kid": "k"}), server.server_port


def gateway_of(
    stack: ExitStack, file: Path, environment: dict[str, str], server: str = "local", *more: str
) -> tuple[int, int, list[int]]:
    """Run a gateway; return its port, Envoy's process id, and those of supervisor and worker."""
    port, admin = free_port(), free_port()
    ports = {"BENCH_PORT": str(port), "BENCH_ADMIN": str(admin)}
    command = [sys.executable, "-m", "extproc", "run", str(file), "--server", server]
    command += ["--concurrency", "1", *more]
    started = process(
        stack,
        command,
        env=os.environ | environment | ports,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: answers(admin, "/readyz"), "the gateway")
    document = json.loads(fetched(admin, "/status"))
    workers = [worker["pid"] for worker in document["workers"]]
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    named = {int(child): Path(f"/proc/{child}/comm").read_text() for child in children}
    envoy = next(child for child, name in named.items() if name.startswith("envoy"))
    return port, envoy, [started.pid, *workers]


def envoy_of(stack: ExitStack, config: dict[str, Any], at: str) -> tuple[int, int]:
    """Run an Envoy whose service listens at a path; return its port and process id."""
    port, file = free_port(), Path(f"{at}.json")
    file.write_text(json.dumps(config).replace('"PORT"', str(port)).replace("SOCKET", at))
    command = [binary(None), "-c", str(file), "--disable-hot-restart", "--concurrency", "1"]
    started = process(stack, [*command, "--log-level", "error"])
    until(lambda: listens(port), f"the Envoy of {file.stem}")
    return port, started.pid


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found: int = server.getsockname()[1]
    return found


def fetched(port: int, path: str) -> bytes:
    """Return what a server of this host answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        data: bytes = response.read()
    return data


def answers(port: int, path: str) -> bool:
    """Say whether a server of this host answers with a success."""
    try:
        fetched(port, path)
    except OSError:
        return False
    return True


def listens(port: int) -> bool:
    """Say whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; end the run, saying what doesn't start, where it takes too long."""
    ends = time.monotonic() + _READY_WITHIN
    pause = threading.Event()
    while not condition():
        if time.monotonic() > ends:
            sys.exit(f"{what} doesn't start")
        pause.wait(0.05)
