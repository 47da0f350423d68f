"""Kinds of credentials: where one is presented, who judges it, and how it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from extproc.authentication import tokens
from extproc.authentication.tokens import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from extproc.authentication.jwt import JwtAuthenticator
    from extproc.core.ports import Services
    from extproc.core.principal import Principal
    from extproc.core.values import Request


class Scheme(Protocol):
    """One kind of credential that a route accepts."""

    def start(self, services: Services) -> None:
        """Prepare; once per worker and version."""

    def presented(self, request: Request) -> str | None:
        """Return the credential of this kind; None for none.

        Raises:
            Refused: what is presented can't be read as one.
        """

    def verify(self, credential: str) -> Principal | Awaitable[Principal]:
        """Conclude who is calling.

        Raises (at once, or from the awaitable):
            Refused: the credential isn't accepted.
            KeysMissing: it can't be judged now.
        """

    def challenge(self, *, refused: bool) -> str:
        """Return what asks for a credential of this kind (RFC 9110 section 11.6.1)."""


def one_value(request: Request, header: str) -> str | None:
    """Return a header's value; None if it is absent.

    Raises:
        Refused: it was sent more than once.
    """
    values = request.headers.get_all(header)
    if len(values) > 1:
        raise Refused("several_credentials")
    return values[0] if values else None


class BearerTokens:
    """Bearer tokens that are JWTs; each goes to the authenticator of its issuer."""

    def __init__(self, authenticators: Sequence[JwtAuthenticator], header: str) -> None:
        self.authenticators = tuple(authenticators)
        self._header = header
        self._by_issuer = {a.rules.issuer: a for a in self.authenticators}

    def start(self, services: Services) -> None:
        """Fetch keys."""
        self._clock = services.clock
        for authenticator in self.authenticators:
            authenticator.start(services)

    def presented(self, request: Request) -> str | None:
        """Return the one bearer token (RFC 6750 section 2.1); two are never reconciled."""
        value = one_value(request, self._header)
        if value is None:
            return None
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer" or not token or "," in token or " " in token:
            raise Refused("malformed")
        return token

    def verify(self, credential: str) -> Principal | Awaitable[Principal]:
        """Verify a token, or remember that it was verified."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for authenticator in self.authenticators:
            known = authenticator.known(credential, now, monotonic)
            if known is not None:
                return known
        token = tokens.read(credential)
        chosen = self._by_issuer.get(token.issuer)
        if chosen is None:
            raise Refused("iss")
        return chosen.verify(credential, token, now, monotonic)

    def challenge(self, *, refused: bool) -> str:
        """RFC 6750 section 3; the reason is for the record, not for the client."""
        error = ', error="invalid_token"' if refused else ""
        return f'Bearer realm="gateway"{error}'
