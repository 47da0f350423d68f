"""Credentials that go on to upstreams of cached answers: each caller's own, and nobody else's."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.client import Reply

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
TEXT = f"""
upstreams:
  told: {{endpoints: ["http://127.0.0.1:UPSTREAM"]}}
  trusted: {{endpoints: ["http://127.0.0.1:UPSTREAM"], forward_credentials: true}}
authentication: {{shop: {{jwt: {{issuer: "https://id.test", audiences: [shop], secret: {SECRET}}}}}}}
identity: {{headers: {{x-vip: '{{has(principal.claims.vip) ? "yes" : "no"}}'}}}}
defaults: {{authentication: [shop]}}
routes:
  - name: without
    match: {{path: /without}}
    plugins: [{{use: "own.py:WithoutToken"}}]
    cache: {{ttl: 60s}}
    aggregate: {{calls: {{me: {{upstream: trusted, path: /me}}}}, response: me}}
  - name: behind
    match: {{path: /behind}}
    cache: {{ttl: 1s, stale_while_revalidate: 5m}}
    aggregate: {{calls: {{me: {{upstream: trusted, path: /me}}}}, response: me}}
  - {{name: own, match: {{path: /own, methods: [GET]}}, upstream: told, request: {{headers: {{set: {{authorization: "Basic Z3c6c2VjcmV0"}}}}}}}}
  - name: own-cached
    match: {{path: /own-cached, methods: [GET]}}
    upstream: told
    request: {{headers: {{set: {{Authorization: "Basic Z3c6c2VjcmV0"}}}}}}
    cache: {{ttl: 1s, stale_while_revalidate: 5m}}
  - {{name: maybe, match: {{path: /maybe, methods: [GET]}}, upstream: told, request: {{headers: {{set: {{authorization: "Basic {{request.query.pair}}"}}}}}}}}
  - {{name: vip, match: {{path: /vip, methods: [GET]}}, upstream: told, cache: {{ttl: 60s}}}}
"""
OWN = """
from extproc import Plugin, Request


class WithoutToken(Plugin):
    def on_request(self, request: Request) -> None:
        del request.headers["authorization"]
"""


def says(got: Got) -> Say:
    """Tell who was named, or what was sent."""
    sent = got.headers.get("authorization", "")
    known = sent.startswith("Bearer ")
    claims = jwt.decode(sent[7:], options={"verify_signature": False}) if known else {}
    told = {"sub": claims.get("sub"), "vip": got.headers.get("x-vip")}
    return Say(told | ({} if known else {"sent": sent}))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(says) as running:
        yield running


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway."""
    with gateway(TEXT.replace("UPSTREAM", str(upstream.port)), {"own.py": OWN}) as running:
        yield running


def asked(place: Gateway, target: str, subject: str, **claims: Any) -> Reply:
    """Ask with a token."""
    now = int(time.time())
    said = {"iss": "https://id.test", "aud": "shop", "sub": subject, "exp": now + 600} | claims
    token = jwt.encode(said, SECRET, "HS256")
    return place.ask(target, headers={"authorization": f"Bearer {token}"})


def test_a_plugin_that_takes_the_token_off_makes_nobody_share(place: Gateway) -> None:
    """Calls forward what the client sent, so that is what tells stored answers apart."""
    for subject in ("alice", "bob", "alice"):
        assert asked(place, "/without", subject).json["sub"] == subject


def test_the_background_forwards_it_too(place: Gateway, upstream: Counting) -> None:
    """What is stored for a caller is never replaced by what nobody in particular gets."""
    claims = {"exp": int(time.time()) + 600}  # one token, so one stored answer
    assert asked(place, "/behind", "carol", **claims).json["sub"] == "carol"
    before = upstream.count("/me")

    def again() -> bool:
        assert asked(place, "/behind", "carol", **claims).json["sub"] == "carol"
        return upstream.count("/me") >= before + 2

    until(again, "validated in the background twice")
    assert asked(place, "/behind", "carol", **claims).json["sub"] == "carol"


def test_a_claim_that_is_null_is_one(place: Gateway) -> None:
    """`has` tells it from one that isn't there, and so does the upstream's answer."""
    assert asked(place, "/vip", "dave").json["vip"] == "no"
    assert asked(place, "/vip", "erin", vip=None).json["vip"] == "yes"


def test_a_route_logs_in_at_its_upstream(place: Gateway, upstream: Counting) -> None:
    """What it sets takes the place of the client's credential, in the background too."""
    for path in ("/own", "/own-cached"):
        assert asked(place, path, "frank").json["sent"] == "Basic Z3c6c2VjcmV0"
    before = upstream.count("/own-cached")

    def again() -> bool:
        assert asked(place, "/own-cached", "frank").json["sent"] == "Basic Z3c6c2VjcmV0"
        return upstream.count("/own-cached") >= before + 2

    until(again, "validated in the background twice")


def test_without_a_value_it_sends_none(place: Gateway) -> None:
    """And never the client's."""
    assert asked(place, "/maybe?pair=YTpi", "grace").json["sent"] == "Basic YTpi"
    assert asked(place, "/maybe", "grace").json["sent"] == ""
