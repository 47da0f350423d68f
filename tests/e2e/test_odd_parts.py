"""Parts that are odd, and what they mean for their own answer, and for nobody else's."""

# ruff: noqa: E501 - a call of the gateway file below is one line

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """
upstreams: {u: {endpoints: ["http://127.0.0.1:UPSTREAM"], timeout: 5s}}
defaults: {authentication: none}
routes:
  - name: good
    match: {path: "/good/{id}"}
    aggregate: {calls: {one: {upstream: u, path: "/slow/{request.params.id}"}}, response: one}
  - name: odd
    match: {path: "/odd/{id}"}
    aggregate: {calls: {one: {upstream: u, path: "/odd/{request.params.id}", required: false, default: D}}, response: "{one: one}"}
  - name: xml
    match: {path: "/xml/{id}"}
    aggregate: {calls: {one: {upstream: u, path: "/odd/{request.params.id}", format: xml, required: false, default: D}}, response: "{one: one}"}
"""
LONG = b"12345678901234567890"
ODD = {
    "deep": b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b', "b": ' + LONG + b"}",
    "deeper": b"[" * 400 + b"]" * 400,
    "utf7": b'<?xml version="1.0" encoding="utf-7"?><a>+AOk-</a>',
    "rot13": b'<?xml version="1.0" encoding="rot13"?><a>1</a>',
}


def answer(got: Got) -> Say:
    """Answer, some slowly and some oddly."""
    if got.path.startswith("/slow/"):
        return Say({"path": got.path}, after=0.3)
    return Say(body=ODD[got.path.rpartition("/")[2]])


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(answer) as running:
        yield running


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run a gateway."""
    with gateway(TEXT.replace("UPSTREAM", str(upstream.port))) as running:
        yield running


@pytest.mark.parametrize("target", ["/odd/deep", "/odd/deeper", "/xml/utf7", "/xml/rot13"])
def test_an_odd_part_is_nobody_elses_trouble(
    place: Gateway, upstream: Counting, target: str
) -> None:
    """The default stands in, and calls that share the way to Envoy go on."""
    upstream.got.clear()
    name = target.strip("/").replace("/", "-")
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(place.ask, f"/good/{name}-{n}") for n in range(8)]
        until(lambda: len(upstream.got) == 8, "eight are under way")
        reply = place.ask(target)
        assert (reply.status, reply.json) == (200, {"one": "D"})
        assert {one.result().status for one in good} == {200}
