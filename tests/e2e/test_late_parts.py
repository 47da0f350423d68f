"""Calls that are late, that failed before, or whose gateway file changes under them."""

# ruff: noqa: E501 - a call of the gateway file below is one line

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from extproc.authentication import api_keys
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """
upstreams: {shop: {endpoints: ["http://127.0.0.1:SHOP"], timeout: 8s}}
defaults: {authentication: none}
authentication:
  staff: {api_key: {header: x-staff-key, file: staff.jsonl}}
  partner: {api_key: {header: x-partner-key, file: partner.jsonl}}
identity: {assertion: {header: x-assertion, key: key.pem}}
routes:
  - name: late
    match: {path: /late, methods: [POST]}
    aggregate:
      deadline: 300ms
      calls:
        x: {upstream: shop, method: POST, path: /hang, body: {a: 1}, required: false, default: {v: 1}, fallback: {upstream: shop, method: POST, path: /instead, body: {}}}
        pay: {upstream: shop, method: POST, path: /pay, body: {a: "{x.v}"}, required: false}
      response: "{x: x, pay: pay}"
  - name: again
    match: {path: /again}
    aggregate:
      calls:
        first: {upstream: shop, path: /second-time, required: false}
        between: {upstream: shop, path: "/echo?f={first.n}"}
        later: {upstream: shop, path: /second-time, required: false, when: "between.path != null"}
      response: "{first: first, later: later}"
  - name: items
    match: {path: /items}
    aggregate: {calls: {item: {upstream: shop, each: "`[1, 2]`", path: "/items/{key}"}}, response: "item"}
  - name: who
    match: {path: /who}
    authentication: [staff, partner]
    aggregate: {calls: {x: {upstream: shop, path: /who}}, response: "x"}
  - name: moves
    match: {path: /moves}
    aggregate:
      deadline: 20s
      calls:
        x: {upstream: shop, path: /held}
        y: {upstream: shop, path: "/echo?of={x.v}"}
      response: "{x: x.v, y: y.path}"
"""
SECRET = "s" * 43


def key_file(identifier: str, salt: str) -> str:
    """Return a file with one key."""
    return json.dumps({"id": identifier, "hash": api_keys.digest(SECRET, salt)}) + "\n"


class Shop:
    """What the upstream answers."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = 0

    def __call__(self, got: Got) -> Say:
        """Answer."""
        if got.path == "/hang":
            return Say(then="hang")
        if got.path == "/held":
            return Say({"v": 7}, after=20, once=self.let_go)
        if got.path == "/second-time":
            self.asked += 1
            return Say({"n": self.asked}, status=503 if self.asked == 1 else 200)
        if got.path == "/items/2":
            return Say({}, status=404, headers={"cache-control": "no-store"})
        if got.path == "/who":
            payload = got.headers["x-assertion"].split(".")[1]
            return Say(payload, headers={"cache-control": "max-age=60"})
        headers = {"cache-control": "max-age=60"} if got.path.startswith("/items") else {}
        return Say({"path": got.path, "headers": got.headers}, headers=headers)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(Shop()) as server:
        yield server


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    files = {
        "key.pem": pem,
        "staff.jsonl": key_file("reports", "aa" * 16),
        "partner.jsonl": key_file("reports", "bb" * 16),
    }
    with gateway(TEXT.replace("SHOP", str(upstream.port)), files) as running:
        yield running


def test_nothing_is_begun_at_the_deadline(place: Gateway, upstream: Counting) -> None:
    """Neither a fallback nor what waits: it may change something, and nobody would know."""
    reply = place.ask("/late", method="POST")
    assert reply.json == {"x": {"v": 1}, "pay": None}
    assert reply.headers["x-gateway-partial"] == "pay, x"
    assert place.ask("/items").status == 200  # what was sent before this has arrived
    assert [got.path for got in upstream.got if got.method == "POST"] == ["/hang"]


def test_what_failed_is_asked_for_again(place: Gateway, upstream: Counting) -> None:
    """By a later part, also where it failed by its status."""
    upstream.forget()
    reply = place.ask("/again")
    assert reply.json == {"first": None, "later": {"n": 2}}
    assert upstream.count("/second-time") == 2


def test_what_an_item_that_isnt_there_says_of_caching(place: Gateway) -> None:
    """It holds for the list in which it is null."""
    reply = place.ask("/items")
    assert reply.json[1] is None
    assert reply.headers["cache-control"] == "no-store"


def test_the_length_of_what_is_sent(place: Gateway, upstream: Counting) -> None:
    """It is told, as that of a client's request is: some servers take nothing else."""
    upstream.forget()
    place.ask("/late", method="POST")
    [got] = [got for got in upstream.got if got.path == "/hang"]
    assert got.headers["content-length"] == str(len(got.body)) == "7"
    assert "transfer-encoding" not in got.headers


def test_one_name_by_two_authenticators(place: Gateway) -> None:
    """Whom the upstream is told apart gets parts apart."""
    written = api_keys.written("reports", SECRET)
    told = [
        place.ask("/who", headers={header: written}).json
        for header in ("x-staff-key", "x-partner-key", "x-staff-key")
    ]
    assert told[0] == told[2] != told[1]


def test_a_reload_that_renames_an_upstream(place: Gateway, upstream: Counting) -> None:
    """What began before goes on as it would have; later the old one is gone."""
    upstream.forget()
    shop = upstream.answer
    assert isinstance(shop, Shop)
    before = place.status()["version"]
    text = TEXT.replace("SHOP", str(upstream.port))
    replies = []
    asking = threading.Thread(target=lambda: replies.append(place.ask("/moves")))
    asking.start()
    until(lambda: "/held" in upstream.paths(), "it has begun")
    place.write(text.replace("upstream: shop", "upstream: market").replace("{shop:", "{market:"))
    until(lambda: place.status()["version"] != before, "the new version is in force")
    assert upstream.count("/echo") == 0
    shop.let_go.set()
    asking.join(20)
    assert replies[0].json == {"x": 7, "y": "/echo"}
    assert place.ask("/moves").json == {"x": 7, "y": "/echo"}
    until(lambda: list(place.status()["upstreams"]) == ["market"], "the old one is gone", 30)
    assert place.ask("/items").status == 200
