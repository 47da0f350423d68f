"""Key sets (RFC 7517), read strictly: what may not verify a signature isn't kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt import PyJWK, PyJWKError
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

from extproc.authentication import known_secrets, roca

_SMALLEST_RSA = 2048
_MOST_KEYS = 200
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes at least, RFC 7518 section 3.2
_FAMILIES = {"RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "OKP": ("EdDSA",)}
_MEMBERS = ("n", "e", "crv", "x", "y")  # of public keys, RFC 7518 section 6, RFC 8037 section 2
# What a key that names no algorithm is read as; for EC its curve says it.
_ANY = {"RSA": "RS256", "OKP": "EdDSA", "EC": None}
_ALGORITHMS = get_default_algorithms()


class NotAKeySet(ValueError):
    """The document is no usable key set."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key and the algorithms it may verify."""

    key_id: str
    algorithms: frozenset[str]
    material: Any

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Check a signature; an algorithm that isn't this key's never fits."""
        if algorithm not in self.algorithms:
            return False
        return bool(_ALGORITHMS[algorithm].verify(signed, self.material, signature))


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer.

    Attributes:
        keys: in the document's order.
        refused: how many entries weren't usable.
    """

    keys: tuple[Key, ...]
    refused: int = 0
    by_id: dict[str, Key] = field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> KeySet:
        """Read a JWKS document.

        A key id that comes twice is nobody's: both keys are left out.

        Raises:
            NotAKeySet: it isn't one, or holds no usable key.
        """
        try:
            entries = orjson.loads(data)["keys"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise NotAKeySet("the document has no list of keys") from error
        if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
            raise NotAKeySet("the document has no list of keys, or too many")
        found = [key for entry in entries if (key := key_of(entry)) is not None]
        ids = [key.key_id for key in found]
        keys = tuple(key for key in found if ids.count(key.key_id) == 1 or not key.key_id)
        if not keys:
            raise NotAKeySet("the document holds no key that can verify a signature")
        return cls(keys, len(entries) - len(keys), {key.key_id: key for key in keys if key.key_id})

    @classmethod
    def of_secret(cls, secret: bytes) -> KeySet:
        """Return the set of one secret, which stands for every key id.

        Raises:
            NotAKeySet: it is too short, or known to others.
        """
        algorithms = frozenset(a for a, least in _SECRETS.items() if len(secret) >= least)
        if not algorithms:
            raise NotAKeySet("the secret is shorter than 32 bytes (RFC 7518 section 3.2)")
        if known_secrets.is_known(secret):
            raise NotAKeySet("the secret is one that others know, or far too regular")
        return cls((Key("", algorithms, secret),))

    def candidates(self, key_id: str) -> tuple[Key, ...]:
        """Return the key with this id; without an id, at most four keys that might fit."""
        if key_id and self.by_id:
            key = self.by_id.get(key_id)
            return (key,) if key is not None else ()
        return self.keys[:4]


def key_of(entry: Any) -> Key | None:
    """Read one entry; None for whatever can't or mustn't verify (private, secret, `enc`)."""
    if not isinstance(entry, dict):
        return None
    kind, key_id, named = entry.get("kty"), entry.get("kid", ""), entry.get("alg")
    operations = entry.get("key_ops", ["verify"])
    members = [entry.get(name, "") for name in _MEMBERS]
    said = (kind, key_id, "" if named is None else named, *members)
    if not all(isinstance(one, str) for one in said) or not isinstance(operations, list):
        return None
    if kind not in _ANY or entry.get("use", "sig") != "sig" or "verify" not in operations:
        return None
    public = {name: entry[name] for name in ("kty", *_MEMBERS) if name in entry}
    try:
        material = PyJWK(public, algorithm=_ANY[kind]).key
    except (PyJWKError, InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(named, material)
    return Key(key_id, algorithms, material) if algorithms else None


def _algorithms(named: str | None, material: Any) -> frozenset[str]:
    """Return what the key may verify: by its kind, narrowed to the `alg` it names."""
    if isinstance(material, rsa.RSAPublicKey):
        numbers = material.public_numbers()
        strong = (
            material.key_size >= _SMALLEST_RSA
            and numbers.e >= 3  # noqa: PLR2004 - RFC 8017
            and not roca.is_weak(numbers.n)
        )
        possible = frozenset(_FAMILIES["RSA"]) if strong else frozenset()
    elif isinstance(material, ec.EllipticCurvePublicKey):
        possible = frozenset(a for a, curve in _CURVES.items() if curve == material.curve.name)
    elif isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        possible = frozenset(_FAMILIES["OKP"])
    else:
        possible = frozenset()
    return possible if named is None else possible & {named}
