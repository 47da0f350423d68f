"""Upstreams of one name: parts that one of them gave are never taken for another's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_reload import reload
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

TEXT = """
store: {store}
upstreams: {{users: {{endpoints: ["http://127.0.0.1:{port}"]}}}}
defaults: {{authentication: none}}
routes:
  - name: page
    match: {{path: /page}}
    aggregate: {{calls: {{user: {{upstream: users, path: /user}}}}, response: "user.of"}}
"""


def says(name: str, _got: Got) -> Say:
    """Say who it is."""
    return Say({"of": name}, headers={"cache-control": "max-age=600"})


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Counting, Counting]]:
    """Run two that say who they are, and that it may be stored."""
    with counting(partial(says, "one")) as one, counting(partial(says, "other")) as other:
        yield one, other


def stored(running: Gateway, upstream: Counting) -> None:
    """Wait until a part is given without a call."""

    def given() -> bool:
        before = len(upstream.got)
        running.ask("/page")
        return len(upstream.got) == before

    until(given, "the part is stored")


def test_two_gateways_on_one_redis(
    redis: RedisServer, upstreams: tuple[Counting, Counting]
) -> None:
    """A gateway of another team, or of another stage, may well have an upstream called the same."""
    texts = [TEXT.format(store=redis.url, port=upstream.port) for upstream in upstreams]
    with gateway(texts[0]) as one, gateway(texts[1]) as other:
        stored(one, upstreams[0])
        assert one.ask("/page").json == "one"
        assert other.ask("/page").json == "other"


def test_a_reload_that_moves_an_upstream(upstreams: tuple[Counting, Counting]) -> None:
    """What the old one said isn't what the new one says."""
    texts = [TEXT.format(store="memory", port=upstream.port) for upstream in upstreams]
    with gateway(texts[0]) as running:
        stored(running, upstreams[0])
        assert running.ask("/page").json == "one"
        running.write(texts[1])
        reload(running)
        assert running.ask("/page").json == "other"
