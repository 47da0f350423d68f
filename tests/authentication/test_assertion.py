"""The identity assertion: what it says, for how long, and with which keys it is verified."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from extproc.authentication.assertion import NotASigningKey, Signer
from extproc.core.principal import Principal
from extproc.core.values import Request

NOW = 1_800_000_000.0


def pem(key: Any, password: bytes = b"") -> bytes:
    """Return a private key as PEM."""
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)
    return data


ED25519 = pem(ed25519.Ed25519PrivateKey.generate())
P256 = pem(ec.generate_private_key(ec.SECP256R1()))


def request(subject: str = "alice", route: str = "orders") -> Request:
    """Return a request of a known caller."""
    made = Request(route=route)
    made.principal = Principal("jwt", "shop", subject, "https://issuer", ("read", "write"))
    return made


def signer(key: bytes = ED25519, *previous: bytes, ttl: float = 60.0) -> Signer:
    """Return a signer."""
    return Signer(key, previous, "extproc", ttl)


def verified(text: str, by: Signer, audience: str, now: float = NOW) -> dict[str, Any]:
    """Verify an assertion as a backend does, at a moment."""
    keys = jwt.PyJWKSet.from_json(by.key_set)
    key = keys[jwt.get_unverified_header(text)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(
        text, key, ["EdDSA", "ES256"], audience=audience, issuer="extproc", options=options
    )
    if not claims["iat"] <= now < claims["exp"]:
        raise jwt.ExpiredSignatureError
    return claims


@pytest.mark.parametrize("key", [ED25519, P256], ids=["EdDSA", "ES256"])
def test_what_it_says(key: bytes) -> None:
    """Who, by which route, for which upstream, for how long."""
    by = signer(key)
    claims = verified(by.sign(request(), "warehouse", NOW), by, "warehouse")
    assert claims == {
        "iss": "extproc",
        "aud": "warehouse",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "route": "orders",
        "kind": "jwt",
        "sub": "alice",
        "authenticator": "shop",
        "scope": "read write",
        "principal_issuer": "https://issuer",
    }


def test_it_is_for_one_upstream_alone() -> None:
    """Another backend can't be shown it."""
    by = signer()
    with pytest.raises(jwt.InvalidAudienceError):
        verified(by.sign(request(), "warehouse", NOW), by, "billing")


def test_nobody_has_no_subject() -> None:
    """The call is genuine, and the caller is not known."""
    claims = verified((by := signer()).sign(Request(route="r"), "u", NOW), by, "u")
    assert (claims["kind"], "sub" in claims) == ("anonymous", False)


def test_it_is_signed_again_at_half_its_life() -> None:
    """So whoever gets it has at least half of it."""
    by, who = signer(), request()
    first = by.sign(who, "u", NOW)
    assert by.sign(who, "u", NOW + 29) == first
    second = by.sign(who, "u", NOW + 30)
    assert second != first
    assert verified(second, by, "u", NOW + 60)["exp"] == int(NOW) + 90
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(first, by, "u", NOW + 60)


def test_callers_routes_and_upstreams_are_never_mixed() -> None:
    """Each has its own."""
    by, alice, bob = signer(), request("alice"), request("bob")
    other = request("alice", "other")
    other.principal = alice.principal
    texts = [by.sign(r, u, NOW) for r in (alice, bob, other) for u in ("a", "b")]
    assert len(set(texts)) == 6
    assert verified(texts[2], by, "a")["sub"] == "bob"
    assert verified(texts[4], by, "a")["route"] == "other"


def test_rotation_has_no_gap() -> None:
    """Published first, then signed with, then taken out."""
    before, published = signer(ED25519), signer(ED25519, P256)
    swapped, after = signer(P256, ED25519), signer(P256)
    old, new = before.sign(request(), "u", NOW), swapped.sign(request(), "u", NOW)
    for by in (before, published, swapped):
        assert verified(old, by, "u")
    for by in (published, swapped, after):
        assert verified(new, by, "u")
    with pytest.raises(KeyError):
        verified(old, after, "u")


def test_only_public_parts_are_published() -> None:
    """And each key has the thumbprint of RFC 7638 as its name."""
    published = json.loads(signer(ED25519, P256).key_set)["keys"]
    assert [set(key) for key in published] == [
        {"kty", "crv", "x", "kid", "use", "alg"},
        {"kty", "crv", "x", "y", "kid", "use", "alg"},
    ]
    assert all(len(key["kid"]) == 43 for key in published)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"rubbish",
        pem(rsa.generate_private_key(65537, 2048)),
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ed25519.Ed25519PrivateKey.generate(), b"secret"),
    ],
    ids=["empty", "rubbish", "RSA", "P-384", "encrypted"],
)
def test_other_keys_are_refused(key: bytes) -> None:
    """When the gateway file is loaded."""
    with pytest.raises(NotASigningKey):
        signer(key)
