"""One gateway for all attacks: protected, public, optional and key routes, paths by host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from extproc.authentication import api_keys
from tests.attacks import minting
from tests.attacks.minting import jwk
from tests.attacks.place import Place, gateway_text, quiet
from tests.attacks.wire import Upstream, running
from tests.support.processes import gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

API_SECRET = "s" * 43
SALT = "ab" * 16


def key_sets() -> dict[str, str]:
    """Return the issuers' key sets as files: good keys, and every kind that must not be used."""
    weak = {
        "kty": "RSA",
        "kid": "e1",
        "n": minting.number(minting.numbers(minting.key("e1")).n),
        "e": "AQ",
    }
    off = jwk("ec") | {"kid": "off", "y": minting.b64(bytes(31) + b"\x05")}
    shop: list[Any] = [
        jwk("rsa"),
        jwk("ec"),
        jwk("p384"),
        jwk("ed"),
        jwk("rs512", alg="RS512"),
        jwk("shared"),
        jwk("enc", use="enc"),
        jwk("ops", key_ops=["encrypt"]),
        jwk("weak"),
        jwk("twice"),
        jwk("twice2", "twice"),
        {"kty": "oct", "kid": "oct", "k": minting.b64(b"secret" * 8)},
        {"kty": "oct", "kid": "empty", "k": ""},
        {"kty": "oct", "kid": "short", "k": minting.b64(b"x")},
        weak,
        off,
    ]
    many = [jwk(f"ec{number}") for number in range(50)]
    return {
        "shop.json": json.dumps({"keys": shop}),
        "other.json": json.dumps({"keys": [jwk("other", "shared"), jwk("other2")]}),
        "many.json": json.dumps({"keys": many}),
    }


def api_key(identifier: str, **fields: Any) -> str:
    """Return the entry of a key whose secret is `API_SECRET`."""
    entry = {"id": identifier, "hash": api_keys.digest(API_SECRET, SALT)} | fields
    return json.dumps(entry) + "\n"


def files() -> dict[str, str]:
    """Return what stands beside the gateway file."""
    pem = minting.key("ed-assertion").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    keys = api_key("reader", scopes=["read"]) + api_key("late", expires="2020-01-01T00:00:00Z")
    return key_sets() | {"assertion.pem": pem.decode(), "keys.jsonl": keys}


@pytest.fixture(scope="session")
def attacked() -> Iterator[Place]:
    """Run the gateway."""
    upstream = Upstream()
    with running(upstream), gateway(gateway_text(upstream.port), files()) as started:
        yield Place(started, upstream)


@pytest.fixture
def place(attacked: Place) -> Iterator[Place]:
    """Return the gateway; afterwards its log holds no error and nothing but JSON."""
    yield attacked
    quiet(attacked.gateway.said())
