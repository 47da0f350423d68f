"""The plugin that decides who is calling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authentication import tokens
from extproc.authentication.jwt import JwtAuthenticator, KeysMissing
from extproc.authentication.tokens import Refused
from extproc.core.plugin import Plugin
from extproc.core.values import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.core.ports import Services
    from extproc.core.principal import Principal
    from extproc.core.values import Request


class Authenticate(Plugin):
    """Concludes a principal from the request's credential, or answers 401.

    Attributes:
        authenticators: those the route accepts.
        anonymous: whether a request without a credential may go on.
        header: where the credential is.
    """

    authenticators: tuple[JwtAuthenticator, ...]
    anonymous: bool = False
    header: str = "authorization"

    def on_start(self, services: Services) -> None:
        """Fetch keys."""
        self._services = services
        self._by_issuer = {a.rules.issuer: a for a in self.authenticators}
        for authenticator in self.authenticators:
            authenticator.start(services)

    def on_request(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Set the request's principal."""
        presented = request.headers.get_all(self.header)
        if not presented:
            return None if self.anonymous else self._challenge(request, "")
        try:
            text = _bearer(presented)
            found = self._verified(text)
            if not hasattr(found, "__await__"):
                request.principal = found
                return None
        except Refused as error:
            return self._challenge(request, error.reason)
        except KeysMissing:
            return _not_ready()
        return self._waited(request, found)

    def _verified(self, text: str) -> Principal | Awaitable[Principal]:
        clock = self._services.clock
        now, monotonic = clock.now(), clock.monotonic()
        for authenticator in self.authenticators:
            known = authenticator.known(text, now, monotonic)
            if known is not None:
                return known
        token = tokens.read(text)
        chosen = self._by_issuer.get(token.issuer)
        if chosen is None:
            raise Refused("iss")
        return chosen.verify(text, token, now, monotonic)

    async def _waited(self, request: Request, found: Awaitable[Principal]) -> Response | None:
        try:
            request.principal = await found
        except Refused as error:
            return self._challenge(request, error.reason)
        except KeysMissing:
            return _not_ready()
        return None

    def _challenge(self, request: Request, reason: str) -> Response:
        """Answer 401 (RFC 6750 section 3); the reason is for the record, not for the client."""
        response = Response.problem(
            401,
            "Authentication required" if not reason else "Credential not accepted",
            reason="unauthenticated" if not reason else "invalid_credential",
        )
        response.headers["www-authenticate"] = (
            'Bearer realm="gateway"'
            if not reason
            else 'Bearer realm="gateway", error="invalid_token"'
        )
        response.headers["cache-control"] = "no-store"
        request.facts.reason = reason
        return response


def _bearer(presented: list[str]) -> str:
    """Return the one bearer token (RFC 6750 section 2.1); two are never reconciled."""
    if len(presented) != 1:
        raise Refused("several_credentials")
    scheme, _, token = presented[0].partition(" ")
    if scheme.lower() != "bearer" or not token or "," in token or " " in token:
        raise Refused("malformed")
    return token


def _not_ready() -> Response:
    response = Response.problem(
        503, "Authentication not ready", "The issuer's keys are not loaded.", reason="keys_missing"
    )
    response.headers["retry-after"] = "5"
    return response
