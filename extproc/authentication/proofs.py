"""Proof of possession: a stolen token alone is worth nothing.

Two ways by which a token says whose it is (`cnf`, RFC 7800): the certificate of the connection
(RFC 8705), and a key that signs a proof for each request (DPoP, RFC 9449).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from extproc.authentication import certificates, keys, tokens
from extproc.authentication.schemes import one_value
from extproc.authentication.tokens import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.core.ports import Services
    from extproc.core.values import Request

_HEADER = "dpop"
_TYPE = "dpop+jwt"
_WINDOW = 60.0  # seconds that a proof is good for, before and after
_MOST_REMEMBERED = 100_000
_LONGEST_ID = 256
_OF_KEY = "jkt"  # the member of `cnf`, RFC 9449 section 6.1


class Proof(Protocol):
    """What a caller must show beside a token.

    Attributes:
        member: of `cnf`, which it is compared with.
    """

    member: str

    def check(
        self, token: str, claims: Mapping[str, Any], request: Request, services: Services
    ) -> None:
        """Let the caller pass who the token is for.

        Raises:
            Refused: the token names no such proof, or the proof is another's.
        """


class ByCertificate:
    """The token holds the digest of the client's certificate (RFC 8705 section 3.1)."""

    member = "x5t#S256"

    def check(
        self, token: str, claims: Mapping[str, Any], request: Request, services: Services
    ) -> None:
        """Compare it with the certificate of the connection."""
        del token, services
        shown = certificates.digest(request)
        try:
            digest = encoded(bytes.fromhex(shown)) if shown else ""
        except ValueError as error:
            raise Refused("cnf") from error
        if not digest or not _same(confirmed(claims, self.member), digest):
            raise Refused("cnf")


class ByDpop:
    """The token holds the thumbprint of a key that signed a proof for this very request."""

    member = _OF_KEY

    def check(
        self, token: str, claims: Mapping[str, Any], request: Request, services: Services
    ) -> None:
        """Check the proof in the order of RFC 9449 section 4.3."""
        text = one_value(request, _HEADER)
        if text is None:
            raise Refused("dpop")
        proof = tokens.read_any(text)
        if proof.header.get("typ") != _TYPE:
            raise Refused("dpop")
        jwk = _public(proof.header.get("jwk"))
        key = keys.key_of(jwk)
        if key is None or not key.verifies(proof.algorithm, proof.signed, proof.signature):
            raise Refused("dpop")
        _for_this(proof.claims, request, token)
        if not _same(confirmed(claims, self.member), thumbprint(jwk)):
            raise Refused("cnf")
        services.shared(SeenProofs).once(proof.claims)


class SeenProofs:
    """The proofs that this worker took in, whatever version of the gateway file was in force."""

    def __init__(self, services: Services) -> None:
        self._clock = services.clock
        self._seen: dict[str, float] = {}

    def once(self, claims: Mapping[str, Any]) -> None:
        """Refuse a proof that is old, of the future, or was seen.

        Raises:
            Refused: `dpop` or `dpop_replayed`.
            NotReady: there are too many that are still good.
        """
        now = self._clock.now()
        issued = tokens.moment(dict(claims), "iat", "dpop")
        identifier = claims.get("jti")
        if abs(now - issued) > _WINDOW or not isinstance(identifier, str):
            raise Refused("dpop")
        if not 0 < len(identifier) <= _LONGEST_ID or self._seen.get(identifier, 0.0) > now:
            raise Refused("dpop_replayed" if identifier in self._seen else "dpop")
        if len(self._seen) >= _MOST_REMEMBERED:
            self._forget(now)
        # As long as it could be accepted again, whatever moment it names.
        self._seen[identifier] = issued + _WINDOW

    def _forget(self, now: float) -> None:
        """Make room; proofs that are still good are kept, and then none is taken in."""
        self._seen = {one: until for one, until in self._seen.items() if until > now}
        if len(self._seen) >= _MOST_REMEMBERED:
            raise tokens.NotReady("authentication_busy", "Too many proofs in one minute.")


def _for_this(claims: Mapping[str, Any], request: Request, token: str) -> None:
    """Check that a proof is for this method, place and token."""
    if claims.get("htm") != request.method or not _is_place(claims.get("htu"), request):
        raise Refused("dpop")
    if not _same(claims.get("ath"), encoded(hashlib.sha256(token.encode()).digest())):
        raise Refused("dpop")


def _is_place(value: object, request: Request) -> bool:
    """Say whether a URL is the request's, without query and fragment; ports mean nothing here."""
    if not isinstance(value, str):
        return False
    try:
        url = urlsplit(value)
        host = (url.hostname or "").rstrip(".")
    except ValueError:
        return False
    wanted = request.host.strip("[]")
    return (url.scheme, host, url.path or "/") == (request.scheme, wanted, request.path)


def confirmed(claims: Mapping[str, Any], member: str) -> object:
    """Return a member of `cnf` (RFC 7800 section 3.1); None if it isn't there."""
    confirmation = claims.get("cnf")
    return confirmation.get(member) if isinstance(confirmation, dict) else None


def not_otherwise_bound(claims: Mapping[str, Any], proof: Proof | None = None) -> None:
    """Refuse a token that is good only with a proof that nobody asks for here.

    What binds it may be of a kind that this gateway can't check (RFC 7800 section 3.1 leaves more
    to be registered): taken for a bearer token, it would be as good in a thief's hands.

    Args:
        claims: of the token.
        proof: what is asked for.

    Raises:
        Refused: `cnf`.
    """
    asked = proof.member if proof is not None else ""
    confirmation = claims.get("cnf")
    if confirmation is not None:
        if not isinstance(confirmation, dict):
            raise Refused("cnf")
        if any(member != asked and said is not None for member, said in confirmation.items()):
            raise Refused("cnf")
    # RFC 9449 section 7.2; an introspected token says it so (section 6.2).
    if asked != _OF_KEY and str(claims.get("token_type", "")).lower() == "dpop":
        raise Refused("cnf")


def _same(value: object, wanted: str) -> bool:
    return isinstance(value, str) and hmac.compare_digest(value.encode(), wanted.encode())


def _public(jwk: object) -> dict[str, Any]:
    """Return a key that holds no private part (RFC 9449 section 4.3)."""
    if not isinstance(jwk, dict) or "d" in jwk or "k" in jwk:
        raise Refused("dpop")
    return jwk


_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint of a public key (RFC 7638 section 3)."""
    members = {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}
    text = tokens.canonical(members)
    return encoded(hashlib.sha256(text.encode()).digest())


def encoded(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
