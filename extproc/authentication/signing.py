"""Keys that sign tokens, for tests and trials: nothing that serves traffic signs with these."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}
_BY_CURVE = {curve.name: name for name, curve in _CURVES.items()}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_SECRETS = ("HS256", "HS384", "HS512")
ALGORITHMS = (*_CURVES, "EdDSA", *_RSA, *_SECRETS)
_RSA_BITS = 2048
_SECRET_BYTES = 64
# The quickest to make first: a run of tests makes a key for each issuer.
_PREFERRED = ("EdDSA", *_CURVES, *_SECRETS, *_RSA)


class NotASigningKey(ValueError):
    """The text is no private key that can sign a token so; the message says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key.

    Attributes:
        algorithm: by which it signs.
        key_id: of its tokens; empty for none.
        material: the key itself, for the library.
    """

    algorithm: str
    key_id: str
    material: Any

    @classmethod
    def made(cls, accepted: frozenset[str], key_id: str) -> SigningKey:
        """Make a key for one of these algorithms."""
        algorithm = next(name for name in _PREFERRED if name in accepted)
        return cls(algorithm, key_id, _maker(algorithm)())

    @classmethod
    def read(cls, text: bytes, algorithm: str | None = None, key_id: str = "") -> SigningKey:
        """Read a private key in PEM, or a JWK.

        Args:
            text: of the file.
            algorithm: by which to sign; None for the key's usual one.
            key_id: of the tokens; empty for that of a JWK.

        Raises:
            NotASigningKey: it is none, or doesn't sign so.
        """
        found, material = _jwk(text) if text.lstrip().startswith(b"{") else ("", _pem(text))
        possible = _possible(material)
        chosen = algorithm or next(iter(possible), "")
        if chosen not in possible:
            wanted = ", ".join(possible) or "an RSA, EC or Ed25519 key"
            raise NotASigningKey(f"the key doesn't sign {chosen or 'tokens'}, expected {wanted}")
        return cls(chosen, key_id or found, material)

    def sign(self, claims: Mapping[str, object], header: Mapping[str, object]) -> str:
        """Return a compact JWT; `header` comes on top of `alg`, `typ` and `kid`."""
        named = {"kid": self.key_id} if self.key_id else {}
        payload = json.dumps(dict(claims), separators=(",", ":"), ensure_ascii=False).encode()
        own = {**named, **header}
        return jwt.api_jws.encode(payload, self.material, algorithm=self.algorithm, headers=own)

    @property
    def is_secret(self) -> bool:
        """Say whether who verifies must know the key itself."""
        return self.algorithm in _SECRETS

    def public(self) -> dict[str, object]:
        """Return the JWK that verifies; not for secrets."""
        algorithm = get_default_algorithms()[self.algorithm]
        key: dict[str, object] = json.loads(algorithm.to_jwk(self.material.public_key()))
        return key | {"kid": self.key_id, "use": "sig", "alg": self.algorithm}


def unsigned(claims: Mapping[str, object], header: Mapping[str, object]) -> str:
    """Return a token that nobody signed, for tests that it is refused."""
    payload = json.dumps(dict(claims), separators=(",", ":")).encode()
    return jwt.api_jws.encode(payload, "", algorithm="none", headers=dict(header))


def _maker(algorithm: str) -> Callable[[], object]:
    if algorithm in _CURVES:
        return lambda: ec.generate_private_key(_CURVES[algorithm])
    if algorithm in _RSA:
        return lambda: rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    if algorithm in _SECRETS:
        return lambda: secrets.token_bytes(_SECRET_BYTES)
    return ed25519.Ed25519PrivateKey.generate


def _pem(text: bytes) -> object:
    try:
        return serialization.load_pem_private_key(text, password=None)
    except TypeError as encrypted:
        raise NotASigningKey("it is encrypted, and no password is asked for") from encrypted
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotASigningKey("it is neither a JWK nor a private key in PEM") from error


def _jwk(text: bytes) -> tuple[str, object]:
    try:
        entry = json.loads(text)
        key = jwt.PyJWK(entry, algorithm=_usual(entry)).key
    except (ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
        raise NotASigningKey("it is no JWK of a private key") from error
    return str(entry.get("kid", "")), key


def _usual(entry: Mapping[str, object]) -> str | None:
    named = entry.get("alg")
    usual = {"RSA": "RS256", "OKP": "EdDSA", "oct": "HS256"}.get(str(entry.get("kty")))
    return named if isinstance(named, str) else usual


def _possible(material: object) -> tuple[str, ...]:
    """Return the algorithms by which a private key signs, its usual one first."""
    if isinstance(material, rsa.RSAPrivateKey):
        return _RSA
    if isinstance(material, ec.EllipticCurvePrivateKey):
        return tuple(filter(None, [_BY_CURVE.get(material.curve.name)]))
    if isinstance(material, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return ("EdDSA",)
    return _SECRETS if isinstance(material, bytes) else ()
