"""API keys through a real Envoy: beside tokens, stripped before the upstream, reloaded."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from extproc.authentication import api_keys
from tests.support.client import ask
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.processes import Shop

SECRET, SALT = "s" * 43, "ab" * 16
REST = """
upstreams:
  echo: {{endpoints: ['http://127.0.0.1:{echo}']}}
  trusted: {{endpoints: ['http://127.0.0.1:{echo}'], forward_credentials: true}}
decisions: {{file: records.jsonl}}
authentication:
  shop: {{jwt: {{issuer: "{issuer}", audiences: [shop], discovery: true}}}}
  keys: {{api_key: {{file: keys.jsonl}}}}
consumers: {{partner: {{when: 'false'}}, anyone: {{when: 'true'}}}}
identity: {{headers: {{x-user: "{{principal.subject}}", x-consumer: "{{consumer}}"}}}}
policies: {{readers: {{rules: [{{name: reader, allow: '"read" in principal.scopes'}}]}}}}
routes:
  - {{name: key, match: {{path: /key}}, upstream: echo, authentication: [keys]}}
  - {{name: both, match: {{path: /both}}, upstream: echo, authentication: [shop, keys]}}
  - {{name: judged, match: {{path: /judged}}, upstream: echo, authentication: [keys], authorization: readers}}
  - {{name: none, match: {{path: /none}}, upstream: echo, authentication: none}}
  - {{name: trusted, match: {{path: /trusted}}, upstream: trusted, authentication: [keys]}}
"""


def line(identifier: str, **fields: object) -> str:
    """Return an entry whose secret is `SECRET`."""
    return json.dumps({"id": identifier, "hash": api_keys.digest(SECRET, SALT)} | fields) + "\n"


def key(identifier: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"x-api-key": api_keys.written(identifier, SECRET)}


@pytest.fixture(scope="module")
def place(shop: Shop) -> Iterator[Gateway]:
    """Run a gateway."""
    issuer = f"http://127.0.0.1:{shop.ports['issuer']}"
    entries = line("reader", scopes=["read"], consumer="partner") + line("plain")
    with gateway(
        REST.format(echo=shop.ports["echo"], issuer=issuer), {"keys.jsonl": entries}
    ) as running:
        yield running


def test_a_key_names_its_principal_and_consumer(place: Gateway) -> None:
    """The key's consumer wins over conditions; the upstream doesn't see the key."""
    sent = place.ask("/key", headers=key("reader")).sent
    assert (sent["x-user"], sent["x-consumer"]) == ("reader", "partner")
    assert "x-api-key" not in sent
    assert place.ask("/key", headers=key("plain")).sent["x-consumer"] == "anyone"


def test_scopes_are_judged(place: Gateway) -> None:
    """A key without the scope is forbidden, not unauthenticated."""
    assert place.ask("/judged", headers=key("reader")).status == 200
    assert place.ask("/judged", headers=key("plain")).status == 403


def test_one_challenge_for_each_scheme(place: Gateway) -> None:
    """And a refused key reads like an unknown one."""
    nobody = place.ask("/both")
    assert nobody.status == 401
    assert nobody.headers["www-authenticate"].count("realm") in {1, 2}
    wrong = {"x-api-key": api_keys.written("reader", "t" * 43)}
    refused, unknown = place.ask("/key", headers=wrong), place.ask("/key", headers=key("nobody"))
    assert refused.status == unknown.status == 401
    assert refused.json["type"] == unknown.json["type"] == "urn:extproc:invalid_credential"


def test_two_credentials_are_never_reconciled(place: Gateway, shop: Shop) -> None:
    """Each alone is good."""
    token = ask(shop.ports["issuer"], "/token?user=alice&raw=1").body.decode()
    bearer = {"authorization": f"Bearer {token}"}
    assert place.ask("/both", headers=bearer).status == 200
    assert place.ask("/both", headers=key("reader")).status == 200
    assert place.ask("/both", headers=bearer | key("reader")).status == 401


def test_keys_are_taken_off_everywhere_but_where_they_are_wanted(place: Gateway) -> None:
    """Also on routes that look at nothing."""
    assert "x-api-key" not in place.ask("/none", headers=key("reader")).sent
    assert (
        place.ask("/trusted", headers=key("reader")).sent["x-api-key"] == key("reader")["x-api-key"]
    )


def test_no_key_is_written_anywhere(place: Gateway) -> None:
    """L2: logs, records, metrics, status."""
    for presented in (
        key("reader"),
        {"x-api-key": "ek_reader." + "canary" * 8},
        {"x-api-key": "canary"},
    ):
        place.ask("/key", headers=presented)
    until(lambda: "key_wrong" in (place.folder / "records.jsonl").read_text(), "the record")
    everything = (
        (place.folder / "records.jsonl").read_text()
        + place.said()
        + ask(place.admin, "/metrics").body.decode()
        + json.dumps(place.status())
    )
    assert SECRET not in everything
    assert "canary" not in everything


def test_the_file_is_reloaded_and_a_broken_one_is_not(place: Gateway) -> None:
    """A key is taken away without a restart; a half-written file keeps the old ones."""
    file = place.folder / "keys.jsonl"
    before = file.read_text()
    try:
        file.write_text(before + line("fresh"))
        until(lambda: place.ask("/key", headers=key("fresh")).status == 200, "the new key")
        file.write_text(before + '{"id": "half')
        until(lambda: not place.status()["last_reload"]["ok"], "the refusal")
        assert "keys.jsonl:3" in place.status()["last_reload"]["error"]
        assert place.ask("/key", headers=key("fresh")).status == 200
        file.write_text(before)
        until(lambda: place.ask("/key", headers=key("fresh")).status == 401, "the key is gone")
    finally:
        file.write_text(before)
