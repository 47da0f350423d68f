"""A few of the fuzzer's inputs with every run of the tests; `make fuzz` takes a million."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.http2 import frames
from tests.fuzz.run import Target, mutated, recorded
from tests.support.compiled import interpreted

if TYPE_CHECKING:
    from pathlib import Path


async def test_mutated_inputs_raise_nothing_undeclared() -> None:
    """Two thousand of them, from what a real Envoy sent."""
    seeds, draw, target = recorded(), random.Random(7), Target()  # noqa: S311 - mutations
    for _ in range(2000):
        target.feed(mutated(seeds, draw))


async def test_the_recorded_traffic_reaches_every_kind_of_exchange() -> None:
    """As it was sent, frame by frame, it is answered, so mutations of it go deep."""
    target = Target()
    for seed in recorded():
        target.feed([frames.PREFACE, *(frames.frame(*frame) for frame in seed)])
    answered = {labels for name, labels in target._counts.counts if "exchanges" in name}
    assert {("plain", "allow"), ("bodies", "allow"), ("pieces", "allow")} <= answered
    assert not target._log.events


@interpreted
async def test_the_fuzzer_can_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An undeclared exception anywhere in the connection is found."""
    monkeypatch.chdir(tmp_path)

    def broken(_payload: bytes) -> bytes:
        raise KeyError("undeclared")

    monkeypatch.setattr(frames, "unpadded", broken)
    seeds, draw, target = recorded(), random.Random(7), Target()  # noqa: S311 - mutations

    def fuzz() -> None:
        for _ in range(5000):
            target.feed(mutated(seeds, draw))

    with pytest.raises(KeyError):
        fuzz()
