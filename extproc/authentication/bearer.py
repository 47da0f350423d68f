"""Bearer tokens (RFC 6750): a JWT goes to its issuer's authenticator, another to introspection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authentication import tokens
from extproc.authentication.tokens import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from extproc.authentication.introspection import Introspection
    from extproc.authentication.jwt import JwtAuthenticator
    from extproc.core.ports import Services
    from extproc.core.principal import Principal
    from extproc.core.values import Request

_DOTS = 2  # of a compact JWS, RFC 7515 section 7.1


class BearerTokens:
    """Tokens of several issuers; each goes to one authenticator, and there is no second try.

    Args:
        authenticators: of JWTs.
        introspection: for tokens that aren't JWTs; all tokens where there is nothing else.
        kind: what stands before the token, `Bearer` or `DPoP` (RFC 9449 section 7.1).
    """

    def __init__(
        self,
        authenticators: Sequence[JwtAuthenticator],
        introspection: Introspection | None = None,
        kind: str = "Bearer",
    ) -> None:
        self._kind = kind
        self.authenticators = tuple(authenticators)
        self._by_issuer = {a.rules.issuer: a for a in self.authenticators}
        self._introspection = introspection

    def start(self, services: Services) -> None:
        """Fetch keys."""
        self._clock = services.clock
        for authenticator in self.authenticators:
            authenticator.start(services)
        if self._introspection is not None:
            self._introspection.start(services)

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Verify a token, or remember that it was verified."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for authenticator in self.authenticators:
            known = authenticator.known(credential, now, monotonic)
            if known is not None:
                return authenticator.bound(known, credential, request)
        if self._introspection is not None and not self._is_ours(credential):
            return self._introspection.verify(credential)
        token = tokens.read(credential)
        chosen = self._by_issuer.get(token.issuer)
        if chosen is None:
            raise Refused("iss")
        return chosen.verify(credential, token, request, now, monotonic)

    def _is_ours(self, credential: str) -> bool:
        """Say whether a token has the form of a JWT; one that is broken isn't tried elsewhere."""
        return bool(self.authenticators) and credential.count(".") == _DOTS

    def challenge(self, *, refused: bool) -> str:
        """RFC 6750 section 3; the reason is for the record, not for the client."""
        error = ', error="invalid_token"' if refused else ""
        return f'{self._kind} realm="gateway"{error}'
