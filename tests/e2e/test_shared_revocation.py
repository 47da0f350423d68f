"""Replicas that share a Redis refuse what was revoked at any of them."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from tests.support.client import ask
from tests.support.processes import ROOT, Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.processes import Shop
    from tests.support.redis_server import RedisServer

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
REST = """
store: {redis}
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
authentication:
  shop: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}"}}}}
routes:
  - {{name: plain, match: {{path: /plain}}, upstream: echo, authentication: [shop]}}
  - {{name: cached, match: {{path: /cached}}, upstream: echo, authentication: [shop], cache: {{ttl: 60s}}}}
"""


@pytest.fixture(scope="module")
def replicas(shop: Shop, redis: RedisServer) -> Iterator[tuple[Gateway, Gateway]]:
    """Run two gateways, the first with two workers."""
    text = REST.format(echo=shop.ports["echo"], secret=SECRET, redis=redis.url)
    with ExitStack() as stack:
        one = stack.enter_context(gateway(text, workers=2))
        yield one, stack.enter_context(gateway(text))


def bearer(**claims: Any) -> dict[str, str]:
    """Return the header of a token that was issued before anything here was revoked."""
    now = int(time.time())
    usual = {"iss": "https://id.example", "aud": "shop", "iat": now - 120, "exp": now + 300}
    return {"authorization": "Bearer " + pyjwt.encode(usual | claims, SECRET, "HS256")}


def revoke(place: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "extproc", "revoke", *options]
    command += ["--admin", f"127.0.0.1:{place.admin}"]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


def refused(place: Gateway, headers: dict[str, str]) -> bool:
    """Say whether every worker refuses, also where the answer is cached."""
    asked = [place.ask(path, headers=headers).status for path in ("/plain", "/cached") * 8]
    return set(asked) == {401}


def test_J34_what_one_replica_revokes_the_other_refuses(
    replicas: tuple[Gateway, Gateway],
) -> None:
    """J34: within a second, in both directions, also on cache hits."""
    for here, there in (replicas, replicas[::-1]):
        headers = bearer(sub="alice", jti=f"t-{here.port}")
        assert [p.ask("/cached", headers=headers).status for p in replicas] == [200, 200]
        done = revoke(here, "--jti", f"t-{here.port}")
        told = time.monotonic()
        assert done.returncode == 0, done.stderr
        assert refused(here, headers)
        until(lambda p=there, h=headers: refused(p, h), "the other refuses", 5)  # type: ignore[misc]
        assert time.monotonic() - told < 5
    assert [ask(p.admin, "/status").json["revocations_shared"] for p in replicas] == [True, True]


def test_J34_a_replica_that_comes_later_knows_them(
    replicas: tuple[Gateway, Gateway], shop: Shop, redis: RedisServer
) -> None:
    """J34: from its first request on."""
    assert revoke(replicas[0], "--subject", "mallory").returncode == 0
    text = REST.format(echo=shop.ports["echo"], secret=SECRET, redis=redis.url)
    with gateway(text) as late:
        assert late.ask("/plain", headers=bearer(sub="mallory")).status == 401
        assert late.ask("/plain", headers=bearer(sub="bob")).status == 200


def test_F12_redis_away_and_back_with_nothing_in_it(
    replicas: tuple[Gateway, Gateway], redis: RedisServer
) -> None:
    """F12: what is known stays in force; what was revoked meanwhile is told after."""
    one, two = replicas
    assert revoke(one, "--subject", "eve").returncode == 0
    until(lambda: refused(two, bearer(sub="eve")), "both know")
    redis.kill()
    done = revoke(one, "--subject", "oscar")
    assert (done.returncode, "Redis can't be used" in done.stderr) == (1, True)
    assert refused(one, bearer(sub="oscar"))
    assert refused(one, bearer(sub="eve"))
    assert refused(two, bearer(sub="eve"))
    assert two.ask("/plain", headers=bearer(sub="oscar")).status == 200
    until(lambda: ask(two.admin, "/status").json["revocations_shared"] is False, "it says so")
    redis.start()
    until(lambda: refused(two, bearer(sub="oscar")), "the other was told", 10)
    assert refused(two, bearer(sub="eve"))
    client = redis.client()
    until(lambda: client.xlen("extproc:1:revocations") >= 2, "all is written again")
    client.xadd("extproc:1:revocations", {"r": b"rubbish"})
    assert revoke(two, "--subject", "trent").returncode == 0
    until(lambda: refused(one, bearer(sub="trent")), "rubbish hides nothing")
