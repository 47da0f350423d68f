"""RSA moduli that a faulty generator made (CVE-2017-15361, "ROCA"): their factors can be computed.

Its primes are `k·M + (65537^a mod M)` for a product M of small primes, so a modulus is a power of
65537 modulo each of these primes (Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's
Attack, CCS 2017, section 2.3). Modulo some of them every number is such a power; those that tell
something stand here, and a modulus of another origin passes all with a chance of about 2^-27.
"""

from __future__ import annotations

from functools import cache

_GENERATOR = 65537
_TELLING = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


def is_weak(modulus: int) -> bool:
    """Say whether a modulus has the mark of that generator."""
    return all(modulus % prime in powers for prime, powers in _powers())


@cache
def _powers() -> tuple[tuple[int, frozenset[int]], ...]:
    """Return for each prime the powers of the generator."""
    return tuple(
        [(prime, frozenset(pow(_GENERATOR, n, prime) for n in range(prime))) for prime in _TELLING]
    )
