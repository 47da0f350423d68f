"""J8: moduli of a generator whose keys can be computed."""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from math import prod

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.authentication import roca
from extproc.authentication.keys import KeySet, NotAKeySet

# The generator's parameters for 2048 bits: the first 126 primes, 54 bits for `k`, 255 for `a`.
SMALL = [n for n in range(2, 702) if all(n % m for m in range(2, n))]
PRODUCT = prod(SMALL)


def faulty_prime(source: random.Random) -> int:
    """Make a prime as the faulty generator does."""
    while True:
        k, a = source.getrandbits(54) | 1 << 53, source.getrandbits(255)
        found = k * PRODUCT + pow(65537, a, PRODUCT)
        if pow(3, found - 1, found) == 1:
            return found


def entry(modulus: int, key_id: str) -> dict[str, str]:
    """Return a JWK."""
    data = modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
    return {
        "kty": "RSA",
        "kid": key_id,
        "n": urlsafe_b64encode(data).rstrip(b"=").decode(),
        "e": "AQAB",
    }


def test_j8_a_roca_modulus_is_refused_and_other_keys_stay() -> None:
    """By its form alone, at load."""
    assert len(SMALL) == 126
    source = random.Random(1)  # noqa: S311 - a test that is the same each time
    weak = faulty_prime(source) * faulty_prime(source)
    assert weak.bit_length() >= 2048
    sound = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    assert roca.is_weak(weak)
    keys = KeySet.read(orjson.dumps({"keys": [entry(weak, "weak"), entry(sound, "sound")]}))
    assert list(keys.by_id) == ["sound"]
    assert keys.refused == 1
    with pytest.raises(NotAKeySet):
        KeySet.read(orjson.dumps({"keys": [entry(weak, "weak")]}))


def test_j8_no_other_modulus_is_taken_for_one() -> None:
    """A random odd number passes with a chance of 2^-27, a key of another generator too."""
    source = random.Random(2)  # noqa: S311 - as above
    assert not any(roca.is_weak(source.getrandbits(2048) | 1) for _ in range(20_000))
