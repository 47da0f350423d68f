"""Workers and replicas on one Redis: shared, collapsed, purged; and Redis broken under load."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_cache import purge
from tests.support.load import during
from tests.support.origin import Origin, Says, origin
from tests.support.processes import ROOT, Gateway, gateway
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.client import Reply

TEXT = """
store: {redis}
upstreams: {{origin: {{endpoints: ["http://127.0.0.1:{port}"]}}}}
defaults: {{authentication: none}}
routes:
  - {{name: plain, match: {{path: /*, methods: any}}, upstream: origin, cache: {{tags: [all]}}}}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Origin]:
    """Run the origin."""
    with origin() as running:
        yield running


@pytest.fixture(scope="module")
def replicas(redis: RedisServer, upstream: Origin) -> Iterator[tuple[Gateway, Gateway]]:
    """Run two gateways, the first with two workers."""
    text = TEXT.format(redis=redis.url, port=upstream.port)
    with ExitStack() as stack:
        one = stack.enter_context(gateway(text, workers=2))
        two = stack.enter_context(gateway(text))
        yield one, two


@pytest.fixture(autouse=True)
def known(request: pytest.FixtureRequest) -> None:
    """Wait until every worker follows the others."""
    if "replicas" not in request.fixturenames:
        return
    upstream: Origin = request.getfixturevalue("upstream")
    upstream.says["/ready"] = Says({"cache-control": "max-age=60"})
    for one in request.getfixturevalue("replicas"):
        until(partial(shared, one), "what is stored is used")


def shared(running: Gateway) -> bool:
    """Say whether all workers of a gateway answer from what is stored."""
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: running.ask("/ready"), range(16)))
    return all("; hit" in reply.headers["cache-status"] for reply in replies)


def spread(
    replicas: tuple[Gateway, ...], target: str, count: int, when: Callable[[], object]
) -> list[Reply]:
    """Ask all gateways for the same at once; do something while they wait."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(replicas[n % len(replicas)].ask, target) for n in range(count)]
        when()
        return [one.result() for one in asked]


def test_one_request_for_all_replicas(replicas: tuple[Gateway, Gateway], upstream: Origin) -> None:
    """Twenty at once over three workers in two gateways: one reaches the upstream."""
    gate = threading.Event()
    upstream.says["/cold"] = Says({"cache-control": "max-age=60"}, gate=gate)

    def release() -> None:
        until(lambda: upstream.count("/cold") == 1, "one came")
        threading.Event().wait(0.4)  # the others arrive; nothing shows that they have
        gate.set()

    replies = spread(replicas, "/cold", 20, release)
    assert {reply.body for reply in replies} == {b"1"}
    assert upstream.count("/cold") == 1


def test_what_one_stores_the_others_have(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """By Vary too; Redis has milliseconds, so a busy machine may cost a hit: then elsewhere."""
    assert any(has_both(replicas, upstream, f"/vary/{number}") for number in range(8))


def has_both(replicas: tuple[Gateway, Gateway], upstream: Origin, target: str) -> bool:
    """Say whether the second gateway has what the first one stored, two variants."""
    one, two = replicas
    upstream.says[target] = Says({"cache-control": "max-age=60", "vary": "Accept-Language"})
    for language, body in (("de, en", b"1"), ("fr", b"2")):
        headers = {"accept-language": language}
        assert one.ask(target, headers=headers).body == body
        if two.ask(target, headers=headers).body != body:
            return False
    assert two.ask(target, headers={"accept-language": "EN,de"}).body == b"1"
    return upstream.count(target) == 2


def test_nobody_waits_for_what_cannot_be_shared(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """The second burst reaches the upstream at once, from every replica."""
    upstream.says["/never"] = Says({"cache-control": "no-store"})
    spread(replicas, "/never", 20, lambda: None)
    upstream.most.clear()
    gate = threading.Event()
    upstream.says["/never"] = Says({"cache-control": "no-store"}, gate=gate)

    def release() -> None:
        until(lambda: upstream.most["/never"] == 20, "all are there at once")
        gate.set()

    spread(replicas, "/never", 20, release)


def test_variants_do_not_wait_for_each_other(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """Once it is known by what they differ, each has its own lease."""
    languages = ("de", "fr", "en", "it", "es", "pt")
    upstream.says["/languages"] = Says({"cache-control": "max-age=1", "vary": "Accept-Language"})
    for _ in range(2):
        for one in replicas:
            one.ask("/languages", headers={"accept-language": "nl"})
    gate = threading.Event()
    upstream.says["/languages"] = Says(
        {"cache-control": "max-age=60", "vary": "Accept-Language"}, gate=gate
    )
    upstream.most.clear()
    with ThreadPoolExecutor(len(languages)) as pool:
        asked = [
            pool.submit(replicas[0].ask, "/languages", headers={"accept-language": language})
            for language in languages
        ]
        try:
            until(lambda: upstream.most["/languages"] == len(languages), "all are there at once")
        finally:
            gate.set()
        assert {one.result().status for one in asked} == {200}


def test_one_request_for_all_after_an_invalidation(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """What is void in Redis is as good as nothing: one replica asks, the others wait."""
    assert any(asks_once(replicas, upstream, f"/changed/{number}") for number in range(5))


def asks_once(replicas: tuple[Gateway, Gateway], upstream: Origin, target: str) -> bool:
    """Say whether one request goes for all after a write; a busy machine may cost a hit."""
    upstream.says[target] = Says({"cache-control": "max-age=60"})
    for one in replicas:
        one.ask(target)
    assert replicas[0].ask(target, method="PUT").status == 200
    before, gate = upstream.count(target), threading.Event()
    upstream.says[target] = Says({"cache-control": "max-age=60"}, gate=gate)
    threading.Event().wait(0.6)  # all follow: four times a second

    def release() -> None:
        until(lambda: upstream.count(target) > before, "one came")
        threading.Event().wait(0.4)  # the others arrive; nothing shows that they have
        gate.set()

    spread(replicas, target, 20, release)
    return upstream.count(target) == before + 1


def test_writes_and_purges_reach_the_others_within_a_second(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """Every store in memory learns it."""
    one, two = replicas
    upstream.says["/pushed"] = Says({"cache-control": "max-age=60"})

    def change() -> None:
        one.ask("/pushed", method="POST", body=b"x")

    acts: list[Callable[[], object]] = [
        change,
        lambda: purge(one, "--tag", "all"),
        lambda: purge(one, "--all"),
    ]
    for act in acts:
        for running in (one, two, one, two, one):
            running.ask("/pushed")
        before = upstream.count("/pushed")
        act()
        old = [str(number).encode() for number in range(before + 1)]

        def forgotten(old: list[bytes] = old) -> bool:
            return two.ask("/pushed").body not in old

        until(forgotten, "the other has forgotten", 1.5)


def test_a_worker_that_dies_strands_nobody(
    replicas: tuple[Gateway, Gateway], upstream: Origin
) -> None:
    """Its lease ends, and another replica asks."""
    one, two = replicas
    gate = threading.Event()
    upstream.says["/dies"] = Says({"cache-control": "max-age=60"}, gate=gate)
    with ThreadPoolExecutor(4) as pool:
        lost = pool.submit(two.ask, "/dies")
        until(lambda: upstream.count("/dies") == 1, "it is under way")
        asked = [pool.submit(one.ask, "/dies") for _ in range(3)]
        (victim,) = two.workers()
        os.kill(victim, signal.SIGKILL)
        until(lambda: upstream.count("/dies") == 2, "another one asks", 4)
        gate.set()
        assert {reply.result().body for reply in asked} == {b"2"}
        lost.result()


# A script that keeps Redis from answering anybody.
_SLOW = """
local t = redis.call('TIME')
local ends = t[1] * 1000 + t[2] / 1000 + 1200
repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > ends
return 1
"""
BREAKS: dict[str, Callable[[RedisServer], object]] = {
    "killed": lambda redis: redis.kill(),
    "paused": lambda redis: redis.pause(),
    "full": lambda redis: redis.client().config_set("maxmemory", "1"),
    "flushed": lambda redis: redis.client().flushall(),
    "slow": lambda redis: redis.client().eval(_SLOW, 0),
}


def nobody_waits(running: Gateway, upstream: Origin) -> None:
    """Expect that requests don't wait for each other where nothing stored may be given."""
    gate = threading.Event()
    upstream.says["/apart"] = Says({"cache-control": "max-age=60"}, gate=gate)
    upstream.most.clear()
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(running.ask, "/apart") for _ in range(12)]
        try:
            until(lambda: upstream.most["/apart"] == len(asked), "all are there at once")
        finally:
            gate.set()
        assert {one.result().status for one in asked} == {200}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_redis_costs_hits_and_no_requests(how: str, upstream: Origin) -> None:
    """Under load, and used again afterwards."""
    text = "{redis}"
    upstream.says["/load"] = Says({"cache-control": "max-age=1"}, body=b"good")
    with redis_server() as redis:
        text = TEXT.format(redis=redis.url, port=upstream.port)
        with gateway(text) as running:
            upstream.says["/ready"] = Says({"cache-control": "max-age=60"})
            until(lambda: shared(running), "what is stored is used")

            def breaks() -> None:
                BREAKS[how](redis)
                threading.Event().wait(1.5)

            result = asyncio.run(during(f"http://127.0.0.1:{running.port}/load", breaks, loops=8))
            assert set(result.statuses) == {200}
            assert running.ask("/load").body == b"good"
            if how == "killed":
                nobody_waits(running, upstream)
                redis.start()
            redis.go_on()
            until(lambda: shared(running), "what is stored is used again")


def test_a_purge_that_others_can_not_hear_of_is_no_success(upstream: Origin) -> None:
    """The command says so and ends with 1; it is said once Redis answers again."""
    with redis_server() as redis, ExitStack() as stack:
        text = TEXT.format(redis=redis.url, port=upstream.port)
        one = stack.enter_context(gateway(text, workers=2))
        two = stack.enter_context(gateway(text))
        upstream.says["/ready"] = Says({"cache-control": "max-age=60"})
        for running in (one, two):
            until(partial(shared, running), "what is stored is used")
        old = two.ask("/ready").body
        redis.kill()
        command = [sys.executable, "-m", "extproc", "purge", "--tag", "all"]
        command += ["--admin", f"127.0.0.1:{one.admin}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        assert done.stdout == "purged on 2 workers\n"
        assert "other replicas aren't told yet" in done.stderr
        redis.start()
        until(partial(shared, two), "what is stored is used again")
        assert two.ask("/ready").body != old
        until(lambda: purge(one, "--tag", "all") == "purged on 2 workers\n", "others hear it")
