"""Upstreams that fail in every way, under load: every answer is whole, partial, or a problem."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 12
REQUESTS = 40
PARTS = ("a", "b", "c", "d", "e")
TEXT = """
upstreams: {up: {endpoints: ["http://127.0.0.1:UPSTREAM"]}}
decisions: {file: records.jsonl}
defaults: {authentication: none}
routes:
  - name: all
    match: {path: "/all/{id}"}
    aggregate:
      deadline: 400ms
      max_bytes: 64KiB
      calls:
        a: {upstream: up, path: "/a/{request.params.id}"}
        b: {upstream: up, path: "/b/{a.id}", required: false}
        c: {upstream: up, path: "/c/{request.params.id}", required: false, default: none}
        d: {upstream: up, each: "[a.id, `\\"x\\"`]", path: "/d/{key}", required: false}
        e: {upstream: up, path: "/e/{request.params.id}", required: false, timeout: 200ms}
      response: "{a: a.id, b: b.id, c: c.id, d: d[].id, e: e.id}"
"""
LARGE = b'"' + b"x" * 100_000 + b'"'
WAYS = (
    Say(status=500, value={}),
    Say(then="reset"),
    Say(value={}, after=0.6),
    Say(value={"id": "slow"}, slowly=0.05),
    Say(body=b'{"id": "cut', length=100, then="close"),
    Say(body=LARGE),
    Say(body=b"{not json"),
    Say(then="hang"),
)


def failing(got: Got) -> Say:
    """Fail every tenth time, in one of the ways; the seed is the request and its number."""
    return random.choice(WAYS) if random.random() < 0.1 else Say({"id": got.path.split("/")[-1]})  # noqa: S311 - chaos


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(failing) as server:
        yield server


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway."""
    with gateway(TEXT.replace("UPSTREAM", str(upstream.port))) as running:
        yield running


def wrong(name: str, reply: Any) -> str:
    """Return what is wrong with an answer; empty for nothing."""
    if reply.status != 200:
        named = any(f"part {part} " in reply.json["detail"] for part in PARTS)
        return "" if reply.status in {502, 504} and named else f"{reply.status} {reply.body!r}"
    missing = set(filter(None, reply.headers.get("x-gateway-partial", "").split(", ")))
    value = reply.json
    whole = {"a": name, "b": name, "c": name, "d": [name, "x"], "e": name}
    for part, expected in whole.items():
        if part in missing:
            continue
        if value[part] != expected:
            return f"{part} is {value[part]!r} and isn't declared missing"
    if "d" in missing and not set(value["d"] or []) <= {name, "x"}:
        return f"d is another's: {value['d']!r}"
    return "" if missing or value == whole else f"{value} isn't whole"


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_chaos(place: Gateway) -> None:
    """Nothing is mixed up, nothing leaks, and all of it was tried."""
    (worker,) = place.workers()
    assert place.ask("/all/warm").status in {200, 502, 504}
    before = descriptors(worker)
    found: list[str] = []
    statuses: list[int] = []
    partial: list[str] = []

    def client(number: int) -> None:
        for turn in range(REQUESTS):
            name = f"n{number}-{turn}"
            reply = place.ask(f"/all/{name}")
            statuses.append(reply.status)
            partial.extend(reply.headers.get("x-gateway-partial", "").split(", "))
            if problem := wrong(name, reply):
                found.append(problem)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not found, found[:5]
    assert len(statuses) == CLIENTS * REQUESTS
    assert {200, 502} <= set(statuses)
    assert {"b", "c", "d", "e"} <= set(partial)
    assert place.workers() == [worker]
    # A few are opened once: links, metrics, records. Each call would be one more.
    until(lambda: descriptors(worker) <= before + 8, "descriptors are given back")
    assert "Traceback" not in place.said()
    reasons = {r["reason"] for r in _records(place)}
    assert "plugin_failed" not in reasons
    assert "plugin_deadline" not in reasons


def _records(place: Gateway) -> list[dict[str, Any]]:
    return records_in(place.folder / "records.jsonl")
