"""The identity assertion through a real Envoy, verified by the lines that the documents give."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from extproc.authentication.assertion import Signer
from extproc.core.values import Request
from tests.support.client import ask
from tests.support.processes import ROOT, Gateway, gateway, printed_envoy
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.shop.processes import Shop

REST = """
upstreams:
  echo: {{endpoints: ['http://127.0.0.1:{echo}']}}
  other: {{endpoints: ['http://127.0.0.1:{echo}']}}
  stranger: {{endpoints: ['http://127.0.0.1:{echo}'], identity: none}}
authentication:
  shop: {{jwt: {{issuer: "{issuer}", audiences: [shop], discovery: true}}}}
identity: {{assertion: {{key: assertion.pem, ttl: 60s}}}}
defaults: {{authentication: none}}
routes:
  - {{name: mine, match: {{path: /mine}}, upstream: echo, authentication: [shop]}}
  - {{name: open, match: {{path: /open}}, upstream: other}}
  - {{name: stranger, match: {{path: /stranger}}, upstream: stranger}}
  - {{name: many, match: {{path: /many}}, aggregate: {{calls: {{one: {{upstream: other, path: /one}}}}, response: "{{sent: one.headers}}"}}}}
"""
HEADER = "x-gateway-assertion"


def private_key() -> str:
    """Return a new key as PEM."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def place(shop: Shop) -> Iterator[Gateway]:
    """Run a gateway."""
    issuer = f"http://127.0.0.1:{shop.ports['issuer']}"
    text = REST.format(echo=shop.ports["echo"], issuer=issuer)
    with gateway(text, {"assertion.pem": private_key()}) as running:
        yield running


def verifier(place: Gateway) -> Callable[[str, str], dict[str, Any]]:
    """Return the document's `caller`, told where this gateway is."""
    text = (ROOT / "docs" / "authentication.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 12
    space: dict[str, Any] = {}
    exec(snippet.replace("127.0.0.1:8080", f"127.0.0.1:{place.port}"), space)  # noqa: S102 - the document's own lines
    caller: Callable[[str, str], dict[str, Any]] = space["caller"]
    return caller


def test_a_backend_verifies_it_with_the_lines_in_the_documents(place: Gateway, shop: Shop) -> None:
    """Who is calling, by which route; only for this upstream, and only what was signed here."""
    token = ask(shop.ports["issuer"], "/token?user=alice&raw=1").body.decode()
    sent = place.ask("/mine", headers={"authorization": f"Bearer {token}"}).sent
    caller = verifier(place)
    claims = caller(sent[HEADER], "echo")
    assert (claims["sub"], claims["route"], claims["kind"]) == ("alice", "mine", "jwt")
    with pytest.raises(jwt.InvalidAudienceError):
        caller(sent[HEADER], "other")
    head, body, signature = sent[HEADER].split(".")
    with pytest.raises(jwt.InvalidTokenError):
        caller(f"{head}.{body}.{signature[:-4]}AAAA", "echo")
    strange = jwt.encode(claims, private_key(), "EdDSA", {"kid": "a-stranger-s"})
    for forged in (strange, jwt.encode(claims, private_key(), "EdDSA"), "no token"):
        with pytest.raises(jwt.PyJWTError):
            caller(forged, "echo")


@pytest.mark.parametrize(("ahead", "good"), [(3, True), (-3, True), (30, False), (-90, False)])
def test_a_backend_whose_clock_differs(place: Gateway, ahead: int, *, good: bool) -> None:
    """By seconds: an assertion is used in the moment in which it is made."""
    key = (place.folder / "assertion.pem").read_bytes()
    signer = Signer(key, (), "extproc", 60.0)
    made = signer.sign(Request(), "echo", time.time() + ahead)
    caller = verifier(place)
    if good:
        assert caller(made, "echo")["kind"] == "anonymous"
    else:
        with pytest.raises(jwt.PyJWTError):
            caller(made, "echo")


def test_no_client_can_send_one(place: Gateway) -> None:
    """H1: in any spelling, on any route."""
    for name in (HEADER, HEADER.upper(), "X-Gateway-Assertion"):
        sent = place.ask("/open", headers={name: "forged"}).sent
        assert verifier(place)(sent[HEADER], "other")["kind"] == "anonymous"
        assert HEADER not in place.ask("/stranger", headers={name: "forged"}).sent


def test_an_aggregate_s_calls_carry_their_own(place: Gateway) -> None:
    """For the upstream that is called."""
    answer = place.ask("/many")
    assert answer.status == 200
    headers = answer.json["sent"]
    sent = headers if isinstance(headers, dict) else dict(headers)
    assert verifier(place)(sent[HEADER], "other")["route"] == "many"


def test_the_keys_are_there_while_the_service_is_not(place: Gateway) -> None:
    """Envoy serves them; nothing private is among them."""
    worker = place.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        reply = place.ask("/.well-known/gateway-jwks.json")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/jwk-set+json"
    assert all("d" not in key for key in reply.json["keys"])
    printed = json.dumps(printed_envoy(place.folder / "gateway.yaml"))
    assert reply.json["keys"][0]["x"] in printed


def test_the_keys_are_read_and_nothing_else(place: Gateway) -> None:
    """By GET and HEAD; another method isn't told that it did something."""
    path = "/.well-known/gateway-jwks.json"
    head = place.ask(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for method in ("POST", "DELETE", "OPTIONS"):
        reply = place.ask(path, method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        assert b"keys" not in reply.body


def test_a_new_key_is_taken_up_without_a_restart(place: Gateway) -> None:
    """The file is watched like every other; what is signed fits what is published."""
    before = place.ask("/.well-known/gateway-jwks.json").json["keys"][0]["kid"]
    (place.folder / "assertion.pem").write_text(private_key())
    until(
        lambda: place.ask("/.well-known/gateway-jwks.json").json["keys"][0]["kid"] != before,
        "the new key",
    )
    until(
        lambda: verifier(place)(place.ask("/open").sent[HEADER], "other")["route"] == "open",
        "an assertion by the new key",
    )
