"""What one exchange costs inside a worker, without kernel, Envoy and network.

    python -m bench.micro noop|jwt|cache [--profile] >/dev/null

Feeds a connection of the local server the frames that Envoy sends, ten exchanges in each read,
and counts the CPU time until the answers are ready to be written. Decision records go to standard
output, what is measured to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from bench.processes import issuer
from extproc.adapters.http2 import frames
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.frames import Flag, Kind, frame
from extproc.adapters.local.framing import framed
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.metrics import use_folder
from extproc.adapters.wire import PROCESS
from extproc.core.verdict import ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE
from extproc.host.worker import Worker, WorkerOptions

_GATEWAYS = {"noop": "noop.yaml"}
_BATCH = 10
_COUNTED = 400  # short rounds, of which some meet a quiet machine
_ROUNDS = 150
BLOCK = literal(
    [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", PROCESS.encode()),
        (b":authority", b"extproc"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
)
_RESET = frames.LONG.pack(2)


class Sink(asyncio.Transport):
    """A transport that counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.last = b""

    def write(self, data: Any) -> None:
        """Count."""
        self.size += len(data)
        self.last = data

    def is_closing(self) -> bool:
        """Say no."""
        return False

    def close(self) -> None:
        """Do nothing."""

    def pause_reading(self) -> None:
        """Do nothing: where this machine stands still for a while, a read takes long."""

    def resume_reading(self) -> None:
        """Do nothing."""


def message(path: str, key: str, extra: dict[str, str]) -> bytes:
    """Write what Envoy sends for a request's headers."""
    request = pb.ProcessingRequest()
    request.request_headers.end_of_stream = True
    pairs = {
        ":authority": "bench",
        ":path": path,
        ":method": "GET",
        ":scheme": "http",
        **extra,  # Envoy's own come behind a client's
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-envoy-external-address": "127.0.0.1",
        "x-request-id": "6bd9f3b4-5b0a-4c0e-9a3b-6a4d5c0e7c11",
    }
    for name, value in pairs.items():
        request.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    fields = request.attributes["envoy.filters.http.ext_proc"].fields
    fields[ROUTE_ATTRIBUTE].string_value = key
    fields[ADDRESS_ATTRIBUTE].string_value = "127.0.0.1:40000"
    return request.SerializeToString()


class Driven:
    """A connection that is fed exchanges."""

    def __init__(self, worker: Worker, data: bytes) -> None:
        self._peer = worker._server._peer()  # type: ignore[union-attr]  # noqa: SLF001 - as the server does
        self.sink = Sink()
        self._peer.connection_made(self.sink)
        hello = frames.PREFACE + frames.settings({}) + frames.SETTINGS_ACK
        hello += frames.window_update(0, 2**30)
        first = frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\x20" + BLOCK)
        self._peer.data_received(hello + first + frame(Kind.RST_STREAM, 0, 1, _RESET))
        self._message = framed(data)
        self._stream = 3

    def reads(self, count: int) -> list[bytes]:
        """Return the bytes of so many exchanges, cut as reads."""
        made = []
        for _ in range(count // _BATCH):
            ids = range(self._stream, self._stream + 2 * _BATCH, 2)
            self._stream += 2 * _BATCH
            made += [
                b"".join(
                    frame(Kind.HEADERS, Flag.END_HEADERS, i, BLOCK)
                    + frame(Kind.DATA, 0, i, self._message)
                    for i in ids
                ),
                b"".join(frame(Kind.RST_STREAM, 0, i, _RESET) for i in ids),
            ]
        return made

    def store(self) -> None:
        """Have the first exchange go on to a response of 2 KiB, which is stored."""
        answer = pb.ProcessingRequest()
        for name, value in ((":status", b"200"), ("content-type", b"application/json")):
            answer.response_headers.headers.headers.add(key=name, raw_value=value)
        body = pb.ProcessingRequest()
        body.response_body.body = b"x" * 2048
        body.response_body.end_of_stream = True
        sent = frame(Kind.HEADERS, Flag.END_HEADERS, self._stream, BLOCK)
        for data in (self._message, *(framed(m.SerializeToString()) for m in (answer, body))):
            sent += frame(Kind.DATA, 0, self._stream, data)
        self._peer.data_received(sent + frame(Kind.RST_STREAM, 0, self._stream, _RESET))
        self._stream += 2

    def cost(self) -> float:
        """Return what one exchange of some hundred costs, µs of CPU time."""
        reads = self.reads(_COUNTED)
        began = time.process_time()
        self.feed(reads)
        return (time.process_time() - began) / _COUNTED * 1e6

    def feed(self, reads: list[bytes]) -> None:
        """Handle reads."""
        receive = self._peer.data_received
        for read in reads:
            receive(read)


async def _measured(name: str, worker: Worker, extra: dict[str, str], profile: Any) -> None:
    [version] = worker._versions.names  # noqa: SLF001 - what the supervisor is told
    driven = Driven(worker, message(f"/{name}", f"{name}@{version}", extra))
    if name == "cache":
        driven.store()
    for _ in range(30):
        driven.feed(driven.reads(_BATCH))
        await asyncio.sleep(0.02)  # keys are fetched
    times = [driven.cost() for _ in range(_ROUNDS)]
    median = sorted(times)[_ROUNDS // 2]
    print(f"{name}: {min(times):.1f} µs (median {median:.1f})", file=sys.stderr)
    if profile:
        profiler = cProfile.Profile()
        reads = driven.reads(5000)
        profiler.enable()
        driven.feed(reads)
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(35)


async def _main(name: str, profile: bool) -> None:  # noqa: FBT001 - a flag of the command
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        token, port = issuer(stack)
        names_of = {"BENCH_PORT": "1", "BENCH_ADMIN": "2", "BENCH_ORIGIN": "3"}
        os.environ.update(names_of | {"BENCH_KEYS": str(port)})
        use_folder(Path(folder) / "metrics")
        file = Path(__file__).parent / _GATEWAYS.get(name, "gateway.yaml")
        nowhere = Path(os.devnull)
        worker = Worker(WorkerOptions(0, (file,), "unix:/none", "127.0.0.1:1", decisions=nowhere))
        await worker.load(file)
        extra = {"authorization": f"Bearer {token}"} if name == "jwt" else {}
        await _measured(name, worker, extra, profile)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("noop", "jwt", "cache"))
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options.name, options.profile))
