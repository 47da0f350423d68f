"""Tokens made by hand, rightly signed unless asked otherwise, and the key sets they belong to."""

from __future__ import annotations

import base64
import json
import time
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "http://issuer.test"
OTHER_ISSUER = "http://other.test"
MANY_ISSUER = "http://many.test"
AUDIENCE = "shop"
_KINDS: tuple[tuple[Any, Any], ...] = (
    (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
    (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
    (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
)


@lru_cache(None)
def key(name: str) -> Any:
    """Return the private key of this name, made when it is first asked for."""
    if name.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    if name == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    if name == "k1":
        return ec.generate_private_key(ec.SECP256K1())
    if name.startswith("ed"):
        return ed25519.Ed25519PrivateKey.generate()
    size = 1024 if name == "weak" else 2048
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def jwk(name: str, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a key's public JWK."""
    private = key(name)
    algorithm = next(algorithm for kind, algorithm in _KINDS if isinstance(private, kind))
    made: dict[str, Any] = json.loads(algorithm.to_jwk(private.public_key()))
    return made | {"kid": kid if kid is not None else name} | more


def b64(data: bytes) -> str:
    """Encode as JWTs do."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with changes; a value of `...` takes a claim out."""
    now = int(time.time())
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": now + 600,
        "iat": now,
        "scope": "read",
    }
    return {name: value for name, value in (made | changes).items() if value is not ...}


def header(**changes: Any) -> dict[str, Any]:
    """Return a good header with changes; a value of `...` takes a member out."""
    made = {"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}
    return {name: value for name, value in (made | changes).items() if value is not ...}


def raw(head: bytes, payload: bytes, *, name: str = "rsa", algorithm: str = "RS256") -> str:
    """Return a token whose header and payload are these very bytes, signed by a key."""
    text = f"{b64(head)}.{b64(payload)}"
    return f"{text}.{b64(signature(text, name, algorithm))}"


def signature(text: str, name: str = "rsa", algorithm: str = "RS256") -> bytes:
    """Sign text."""
    made: bytes = jwt.get_algorithm_by_name(algorithm).sign(text.encode(), key(name))
    return made


def token(
    *,
    head: dict[str, Any] | None = None,
    name: str = "rsa",
    algorithm: str = "RS256",
    **changes: Any,
) -> str:
    """Return a good token with changed claims; `head` changes its header."""
    top = json.dumps(header(**(head or {}))).encode()
    return raw(top, json.dumps(claims(**changes)).encode(), name=name, algorithm=algorithm)


def numbers(private: Any) -> Any:
    """Return a public key's numbers."""
    return private.public_key().public_numbers()


def number(value: int) -> str:
    """Encode a number as JWKs do."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))
