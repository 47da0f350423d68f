"""JWT authentication: one issuer, its keys, and a bounded memory of verified tokens."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from extproc.authentication import tokens, uses
from extproc.authentication.keys import KeySet
from extproc.authentication.proofs import not_otherwise_bound
from extproc.authentication.tokens import NotReady, Refused, Token
from extproc.core.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.authentication.jwks import KeySource
    from extproc.authentication.keys import Key
    from extproc.authentication.proofs import Proof
    from extproc.core.ports import Services
    from extproc.core.values import Request

_MOST_REMEMBERED = 10_000


def _keys_missing() -> NotReady:
    """The issuer's keys were never loaded or are too old to be used."""
    return NotReady("keys_missing", "The issuer's keys are not loaded.")


@dataclass(slots=True)
class _Remembered:
    principal: Principal
    expires: float
    keys: KeySet


class JwtAuthenticator:
    """Accepts the tokens of one issuer."""

    def __init__(
        self,
        name: str,
        rules: tokens.Rules,
        algorithms: frozenset[str],
        source: KeySource,
        proof: Proof | None = None,
    ) -> None:
        self.name = name
        self.rules = rules
        self.source = source
        self.proof = proof
        self._algorithms = algorithms
        self._remembered: dict[str, _Remembered] = {}
        self._services: Services | None = None

    def start(self, services: Services) -> None:
        """Begin to fetch keys."""
        self._services = services
        self.source.start(services)

    def known(self, text: str, now: float, monotonic: float) -> Principal | None:
        """Return the principal of a token that was verified under the keys in use."""
        found = self._remembered.get(text)
        if found is None or found.keys is not self.source.current(monotonic):
            return None
        if now >= found.expires:
            del self._remembered[text]
            return None
        return found.principal

    def bound(self, principal: Principal, text: str, request: Request) -> Principal:
        """Return the principal, once the caller has shown that the token is theirs.

        Raises:
            Refused: `cnf`, `dpop` or `dpop_replayed`.
        """
        if self.proof is not None and self._services is not None:
            self.proof.check(text, principal.claims, request, self._services)
        return principal

    def verify(
        self, text: str, token: Token, request: Request, now: float, monotonic: float
    ) -> Principal | Awaitable[Principal]:
        """Verify a token that was read.

        Raises (at once, or from the awaitable):
            Refused: see `tokens`, `uses` and `bound`; also `alg`, `kid`, `signature`, `cnf`.
            NotReady: the issuer's keys aren't there.
        """
        if token.algorithm not in self._algorithms:
            raise Refused("alg")
        uses.check_header(token.header, profile=self.rules.profile)
        uses.check_claims(token.claims)
        not_otherwise_bound(token.claims, self.proof)
        keys = self.source.current(monotonic)
        if keys is None or not self._can_judge(keys, token):
            return self._with_fresh_keys(text, token, request, now, monotonic)
        return self.bound(self._checked(text, token, now, keys), text, request)

    def _can_judge(self, keys: KeySet, token: Token) -> bool:
        """Say whether these keys decide on a token; without a key id, only where one fits.

        An issuer that names no keys may have changed them: what fits none is worth a look.
        """
        if token.key_id:
            return bool(keys.candidates(token.key_id))
        return not self.source.is_fetched or _fitting(keys, token) is not None

    async def _with_fresh_keys(
        self, text: str, token: Token, request: Request, now: float, monotonic: float
    ) -> Principal:
        keys = await self.source.refreshed(monotonic)
        if keys is None:
            raise _keys_missing()
        return self.bound(self._checked(text, token, now, keys), text, request)

    def _checked(self, text: str, token: Token, now: float, keys: KeySet) -> Principal:
        candidates = keys.candidates(token.key_id)
        if not candidates:
            raise Refused("kid")
        if not any(token.algorithm in key.algorithms for key in candidates):
            raise Refused("alg")
        if _fitting(keys, token) is None:
            raise Refused("signature")
        expires = tokens.judge(token.claims, self.rules, now)
        principal = _principal(self.name, token.claims, self.rules.leeway)
        self._remember(text, _Remembered(principal, expires, keys))
        return principal

    def _remember(self, text: str, remembered: _Remembered) -> None:
        if len(self._remembered) >= _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[text] = remembered


def _fitting(keys: KeySet, token: Token) -> Key | None:
    """Return the key that a token is signed with."""
    algorithm, signed, signature = token.algorithm, token.signed, token.signature
    candidates = keys.candidates(token.key_id)
    return next((key for key in candidates if key.verifies(algorithm, signed, signature)), None)


def _principal(authenticator: str, claims: dict[str, Any], ahead: float) -> Principal:
    return Principal(
        kind="jwt",
        authenticator=authenticator,
        subject=claims.get("sub", ""),
        issuer=claims["iss"],
        scopes=scopes_of(claims),
        claims=MappingProxyType(claims),
        ahead=ahead,
    )


def scopes_of(claims: dict[str, Any]) -> tuple[str, ...]:
    """Read `scope` (RFC 8693 section 4.2) or `scp`, as text or list."""
    value = claims.get("scope", claims.get("scp", ""))
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list):
        return tuple(item for item in value if isinstance(item, str))
    return ()
