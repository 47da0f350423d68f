"""A long run over one local server: exchanges, client resets, failing plugins; what it keeps.

    python -m bench.soak [--exchanges 1000000]

A worker process serves a gateway file whose plugin raises in one of a hundred requests; a client
writes what Envoy writes, resets one exchange in twenty before its answer, and reads everything.
Prints the resident memory after the first tenth and at the end, and what is left open.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.micro import BLOCK, message
from extproc.adapters.http2 import frames
from extproc.adapters.http2.frames import Flag, Kind, frame
from extproc.adapters.local.framing import framed

_PLUGIN = """
from extproc import Plugin

class Fails(Plugin):
    def on_request(self, request):
        if request.path.endswith("/fail"):
            raise RuntimeError("as asked")
        request.headers["x-seen"] = request.path
    def on_finish(self, request, outcome):
        pass
"""
_GATEWAY = """
version: 1
listener: {address: "127.0.0.1:1"}
admin: {address: "127.0.0.1:0"}
upstreams: {o: {endpoints: ["http://127.0.0.1:1"]}}
defaults: {authentication: none}
routes:
  - {name: soak, match: {path: /soak/*}, upstream: o, plugins: [{use: "own.py:Fails"}]}
"""
_BATCH = 100
_SETTLED = 1.5  # seconds until metrics have their files
_RESET = frames.LONG.pack(2)


def resident(pid: int) -> int:
    """Return a process's resident memory, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Client:
    """Writes batches of exchanges and reads until each that was not reset is answered."""

    def __init__(self, path: str, key: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        hello = frames.PREFACE + frames.settings({4: 2**31 - 1}) + frames.SETTINGS_ACK
        self._socket.sendall(hello + frames.window_update(0, 2**30))
        self._sent = 2**30
        self._messages = {
            fails: framed(message("/soak/fail" if fails else "/soak/x", key, {}))
            for fails in (True, False)
        }
        self._stream = 1
        self._rest = b""
        self.answers = 0

    def batch(self, draw: random.Random) -> None:
        """Run a batch."""
        begun, reset, waiting = [], [], set()
        for _ in range(_BATCH):
            stream, self._stream = self._stream, self._stream + 2
            block = (b"\x20" if stream == 1 else b"") + BLOCK
            begun.append(frame(Kind.HEADERS, Flag.END_HEADERS, stream, block))
            begun.append(frame(Kind.DATA, 0, stream, self._messages[draw.random() < 0.01]))  # noqa: PLR2004
            ended = frame(Kind.RST_STREAM, 0, stream, _RESET)
            if draw.random() < 0.05:  # noqa: PLR2004 - the share that is reset
                begun.append(ended)
            else:
                waiting.add(stream)
                reset.append(ended)
        self._socket.sendall(b"".join(begun))
        while waiting:
            for kind, _flags, stream, size in self._frames():
                if kind == Kind.DATA:
                    waiting.discard(stream)
                    self.answers += 1
                    self._sent -= size
        updates = b""
        if self._sent < 2**29:
            updates = frames.window_update(0, 2**29)
            self._sent += 2**29
        self._socket.sendall(b"".join(reset) + updates)

    def _frames(self) -> list[tuple[int, int, int, int]]:
        data = self._socket.recv(1 << 18)
        if not data:
            sys.exit("the server closed the connection")
        buffer, position, found = self._rest + data, 0, []
        while len(buffer) - position >= frames.HEADER_SIZE:
            word, flags, stream = frames.HEADER.unpack_from(buffer, position)
            kind, size = word & 255, word >> 8
            if len(buffer) - position - frames.HEADER_SIZE < size:
                break
            position += frames.HEADER_SIZE + size
            found.append((kind, flags, stream, size))
        self._rest = buffer[position:]
        if any(kind == Kind.GOAWAY for kind, *_ in found):
            sys.exit(f"the server sent GOAWAY: {buffer[-200:]!r}")
        return found

    def close(self) -> None:
        """Go away."""
        self._socket.close()


def soak(exchanges: int) -> dict[str, float]:
    """Run; return what was measured: bytes, counts, seconds."""
    folder = Path(tempfile.mkdtemp(prefix="xs-"))
    (folder / "own.py").write_text(_PLUGIN)
    (folder / "gateway.yaml").write_text(_GATEWAY)
    log = folder / "log"
    command = [sys.executable, "-m", "extproc.cli.worker", str(folder / "gateway.yaml")]
    command += ["--listen", f"unix:{folder}/s", "--egress", "127.0.0.1:1"]
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        return _measured(process, folder, exchanges)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _measured(process: subprocess.Popen[bytes], folder: Path, exchanges: int) -> dict[str, float]:
    from extproc.config.load import load  # noqa: PLC0415 - the worker has loaded it by then

    ends = time.monotonic() + 30
    while not (folder / "s").exists():
        if time.monotonic() > ends or process.poll() is not None:
            sys.exit("the worker doesn't start: " + (folder / "log").read_text())
        time.sleep(0.05)
    key = f"soak@{load(folder / 'gateway.yaml', {}).version}"
    draw = random.Random(1)  # noqa: S311 - a schedule
    warm = Client(f"{folder}/s", key)
    warm.batch(draw)
    warm.close()
    time.sleep(_SETTLED)
    before = descriptors(process.pid)
    client = Client(f"{folder}/s", key)
    began, first, done = time.monotonic(), 0, 0
    while done < exchanges:
        client.batch(draw)
        done += _BATCH
        if not first and done >= exchanges // 10:
            first = resident(process.pid)
    last = resident(process.pid)
    client.close()
    left = _left_open(process.pid, before)
    return {
        "exchanges": done,
        "answers": client.answers,
        "seconds": round(time.monotonic() - began, 1),
        "resident_after_a_tenth": first,
        "resident_at_the_end": last,
        "growth": last - first,
        "descriptors_left": left,
    }


def _left_open(pid: int, before: int) -> int:
    ends = time.monotonic() + 5
    while descriptors(pid) > before and time.monotonic() < ends:
        time.sleep(0.05)
    return descriptors(pid) - before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    print(json.dumps(soak(parser.parse_args().exchanges), indent=2))
