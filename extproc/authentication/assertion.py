"""The signed identity assertion: how a backend knows that a call came through the gateway.

A short-lived JWT for each upstream, signed with EdDSA (RFC 8037) or ES256 (RFC 7518 section 3.4).
It names who is calling and by which route; its audience is the upstream, so one backend can't use
it against another. The public keys are a JSON Web Key Set (RFC 7517), each named by its thumbprint
(RFC 7638).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from extproc.authentication.proofs import encoded, thumbprint
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from extproc.core.ports import Clock, Services
    from extproc.core.principal import Principal
    from extproc.core.values import Request

_REMEMBERED = 10_000


class NotASigningKey(ValueError):
    """A file holds no private key that assertions can be signed with."""


class Signer:
    """Signs assertions, and says with which keys they are verified.

    Args:
        key: PEM of an Ed25519 or P-256 private key.
        previous: PEM of keys that are still published, though nothing is signed with them.
        issuer: the assertion's `iss`.
        ttl: how long an assertion is good for, seconds.

    Raises:
        NotASigningKey: a key is another one.
    """

    def __init__(self, key: bytes, previous: Sequence[bytes], issuer: str, ttl: float) -> None:
        self._key: Any
        self._key, self._algorithm, own = _read(key)
        self._kid = own["kid"]
        self._issuer = issuer
        self._ttl = ttl
        self._published = [own, *(_read(other)[2] for other in previous)]
        self._known: dict[tuple[str, str, int], tuple[str, float, Principal]] = {}

    def distrust(self) -> None:
        """Sign with a key made now, which nobody has, from now on; what is published stays."""
        self._key, self._algorithm = ed25519.Ed25519PrivateKey.generate(), "EdDSA"
        raw = self._key.public_key().public_bytes_raw()
        self._kid = thumbprint({"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)})
        self._known.clear()

    @property
    def key_set(self) -> str:
        """Return the public keys as a JSON Web Key Set."""
        return json.dumps({"keys": self._published}, separators=(",", ":"))

    def sign(self, request: Request, audience: str, now: float) -> str:
        """Return an assertion for an upstream; the same one for half its life.

        Args:
            request: whose principal and route are named.
            audience: the upstream's name.
            now: seconds since the epoch.
        """
        principal = request.principal
        place = (request.route, audience, id(principal))
        known = self._known.get(place)
        if known is not None and now < known[1]:
            return known[0]
        text = self._signed(request.route, principal, audience, now)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        # The entry holds the principal, so its id can't become another's.
        self._known[place] = (text, now + self._ttl / 2, principal)
        return text

    def _signed(self, route: str, principal: Principal, audience: str, now: float) -> str:
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": audience,
            "iat": int(now),
            "exp": int(now + self._ttl),
            "route": route,
            "kind": principal.kind,
        }
        if principal.kind != "anonymous":
            claims["sub"] = principal.subject
            claims["authenticator"] = principal.authenticator
            claims["scope"] = " ".join(principal.scopes)
            if principal.issuer:
                claims["principal_issuer"] = principal.issuer
        headers = {"kid": self._kid, "typ": "gateway-assertion+jwt"}
        return jwt.encode(claims, self._key, self._algorithm, headers)


def _read(pem: bytes) -> tuple[Any, str, dict[str, str]]:
    """Return a key, the algorithm it signs with, and its public part as a JWK."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise NotASigningKey("isn't a PEM private key without a passphrase") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes_raw()
        public, algorithm = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)}, "EdDSA"
    elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        numbers = key.public_key().public_numbers()
        x, y = (encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        public, algorithm = {"kty": "EC", "crv": "P-256", "x": x, "y": y}, "ES256"
    else:
        raise NotASigningKey("is neither an Ed25519 nor a P-256 key")
    return key, algorithm, public | {"kid": thumbprint(public), "use": "sig", "alg": algorithm}


class Assertion(Plugin):
    """Sends the assertion to the upstream; what a client sent under its name is gone.

    Attributes:
        header: where the assertion is.
        signer: signs it.
        upstream: its audience.
        send: false where the upstream gets no identity.
    """

    header: str
    signer: Signer
    upstream: str
    send: bool = True

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock: Clock = services.clock

    def on_request(self, request: Request) -> None:
        """Set the header."""
        if self.send:
            now = self._clock.now()
            request.headers[self.header] = self.signer.sign(request, self.upstream, now)
        else:
            del request.headers[self.header]
