"""Mutated inputs from recorded Envoy traffic: nothing undeclared is ever raised.

    python -m tests.fuzz.run [--inputs 1000000] [--seed 1] [--processes 2]

Each input is a recorded connection, cut into frames, changed in a few places and fed to a
connection of the local server, calls and exchanges included. What may happen: legal frames, a
declared connection error, or a log line of a refused stream. What may not: any exception, or a
defect that a call reports. On a failure the input is written to a file that `--replay` reads.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import multiprocessing
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extproc.adapters.http2 import frames
from extproc.adapters.http2.limits import Limits
from extproc.adapters.local.health import Health
from extproc.adapters.local.methods import methods
from extproc.adapters.local.peer import Peer
from extproc.core.routes import Routes
from tests.fuzz.record import RECORDED
from tests.http2.test_properties import check_frames
from tests.local.services import deciding

if TYPE_CHECKING:
    from extproc.core.routes import Route

_LIMITS = Limits(streams=50, message=200_000, held=400_000, unread=400_000, idle_frames=500)
_SHOWN_EVERY = 50_000
_MOST_FRAMES = 24
_MOST_CHANGES = 4

Frame = tuple[int, int, int, bytes]


class Sink(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep."""
        self.sent += data

    def close(self) -> None:
        """Remember."""
        self.closed = True

    def abort(self) -> None:
        """Remember."""
        self.closed = True

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


def recorded() -> list[list[Frame]]:
    """Return each recorded connection as frames, without its preface."""
    found = []
    for path in sorted(RECORDED.glob("*.bin")):
        data = path.read_bytes()[len(frames.PREFACE) :]
        cut, position = [], 0
        while len(data) - position >= frames.HEADER_SIZE:
            word, flags, stream = frames.HEADER.unpack_from(data, position)
            position += frames.HEADER_SIZE
            kind, size = word & 255, word >> 8
            if len(data) - position < size:
                break
            cut.append((kind, flags, stream, data[position : position + size]))
            position += size
        found.append(cut)
    return found


def mutated(seeds: list[list[Frame]], draw: random.Random) -> list[bytes]:
    """Return an input, cut as reads."""
    seed = draw.choice(seeds)
    start = draw.randrange(max(1, len(seed) - _MOST_FRAMES)) if draw.random() < 0.7 else 0
    chosen = seed[:4] + seed[start : start + draw.randint(1, _MOST_FRAMES)]
    for _ in range(draw.randint(0, _MOST_CHANGES)):
        _change(chosen, draw)
    sent = b"".join(frames.frame(*frame) for frame in chosen)
    if draw.random() < 0.3:
        sent = _bytes_changed(sent, draw)
    sent = frames.PREFACE + sent
    cut = sorted(draw.randrange(len(sent)) for _ in range(draw.randint(0, 3)))
    return [sent[a:b] for a, b in zip([0, *cut], [*cut, len(sent)], strict=True)]


def _change(chosen: list[Frame], draw: random.Random) -> None:
    place = draw.randrange(len(chosen))
    kind, flags, stream, payload = chosen[place]
    match draw.randrange(8):
        case 0:
            del chosen[place]
            if not chosen:
                chosen.append((kind, flags, stream, payload))
        case 1:
            chosen.insert(draw.randrange(len(chosen)), (kind, flags, stream, payload))
        case 2:
            chosen[place] = (draw.randrange(12), flags, stream, payload)
        case 3:
            chosen[place] = (kind, flags ^ (1 << draw.randrange(8)), stream, payload)
        case 4:
            chosen[place] = (kind, flags, draw.choice([0, 1, 2, stream + 2, 2**31 - 1]), payload)
        case 5:
            chosen[place] = (kind, flags, stream, _bytes_changed(payload, draw))
        case 6:
            chosen[place] = (kind, flags, stream, payload[: draw.randrange(len(payload) + 1)])
        case _:
            other = draw.choice(chosen)
            chosen[place] = (kind, flags, stream, other[3])


def _bytes_changed(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.choice(
                [0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)]
            )
    return bytes(changed)


class AnyVersion(Routes):
    """The routes that were recorded, whatever version they had."""

    _NAMES: ClassVar = {"whole": "bodies", "pieces": "pieces"}

    def __init__(self, routes: Routes) -> None:
        super().__init__()
        self._of = routes

    def find(self, key: str) -> Route | None:
        """Return the route that stands for a recorded one."""
        name = key.partition("@")[0]
        return self._of.find(f"{self._NAMES.get(name, 'plain')}@v") if name else None


class Target:
    """A server's inside, without its sockets."""

    def __init__(self) -> None:
        decides, self._plugins, self._counts, self._log = deciding()
        self._deciding = dataclasses.replace(decides, routes=AnyVersion(decides.routes))
        self._methods = methods(self._deciding, Health())

    def feed(self, reads: list[bytes]) -> None:
        """Feed one input.

        Raises:
            AssertionError: a call reported a defect, or frames went out that may not.
        """
        self._log.events.clear()
        self._counts.counts.clear()
        for plugin in self._plugins.values():
            plugin.outcomes.clear()
        lost: list[Peer] = []
        peer = Peer(
            self._methods,
            _LIMITS,
            self._log,
            self._deciding.clock.monotonic,
            lambda _rest: None,
            lambda _peer: None,
            lost.append,
        )
        sink = Sink()
        peer.connection_made(sink)
        for read in reads:
            if not sink.closed:
                peer.data_received(read)
        peer.tick()
        peer.connection_lost(None)
        assert lost == [peer]
        assert peer.held == 0, "bytes are still accounted for"
        check_frames(sink.sent)
        defects = [event for event in self._log.events if event[1] == "call failed"]
        assert not defects, defects


async def _run(seed: int, inputs: int) -> int:
    seeds, draw, target = recorded(), random.Random(seed), Target()  # noqa: S311 - mutations
    began = time.monotonic()
    for number in range(inputs):
        reads = mutated(seeds, draw)
        try:
            target.feed(reads)
        except BaseException:
            path = Path(f"fuzz-{seed}-{number}.bin")
            path.write_bytes(b"\xff--cut--\xff".join(reads))
            sys.stderr.write(f"input {number} of seed {seed} is in {path}\n")
            raise
        if number % _SHOWN_EVERY == _SHOWN_EVERY - 1:
            rate = (number + 1) / (time.monotonic() - began)
            sys.stderr.write(f"seed {seed}: {number + 1} of {inputs}, {rate:.0f} each second\n")
        if number % 100 == 0:
            await asyncio.sleep(0)  # cancelled hooks end
    return inputs


def _work(job: tuple[int, int]) -> int:
    return asyncio.run(_run(*job))


def main() -> None:
    """Fuzz, or replay one input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    if options.replay is not None:

        async def replay() -> None:
            Target().feed(options.replay.read_bytes().split(b"\xff--cut--\xff"))

        asyncio.run(replay())
        return
    share = -(-options.inputs // options.processes)
    jobs = [(options.seed + n, share) for n in range(options.processes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        done = sum(pool.map(_work, jobs))
    sys.stdout.write(f"{done} inputs, none raised anything undeclared\n")


if __name__ == "__main__":
    main()
