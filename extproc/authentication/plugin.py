"""The plugin that decides who is calling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authentication.jwt import KeysMissing
from extproc.authentication.tokens import Refused
from extproc.core.plugin import Plugin
from extproc.core.principal import Principal
from extproc.core.values import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.authentication.schemes import Scheme
    from extproc.core.ports import Services
    from extproc.core.values import Request


class Authenticate(Plugin):
    """Concludes a principal from the request's credential, or answers 401.

    Attributes:
        schemes: the kinds of credentials that the route accepts.
        anonymous: whether a request without a credential may go on.
    """

    schemes: tuple[Scheme, ...]
    anonymous: bool = False

    def on_start(self, services: Services) -> None:
        """Prepare every scheme."""
        for scheme in self.schemes:
            scheme.start(services)

    def on_request(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Set the request's principal."""
        try:
            scheme, credential = self._presented(request)
            if scheme is None:
                return None if self.anonymous else self._challenge(request, "")
            found = scheme.verify(credential)
            if isinstance(found, Principal):
                _take(request, found)
                return None
        except Refused as error:
            return self._challenge(request, error.reason)
        except KeysMissing:
            return _not_ready()
        return self._waited(request, found)

    def _presented(self, request: Request) -> tuple[Scheme | None, str]:
        """Return the one credential and whose it is; two are never reconciled.

        Raises:
            Refused: there are several, or one can't be read.
        """
        found: tuple[Scheme | None, str] = (None, "")
        for scheme in self.schemes:
            credential = scheme.presented(request)
            if credential is not None:
                if found[0] is not None:
                    raise Refused("several_credentials")
                found = (scheme, credential)
        return found

    async def _waited(self, request: Request, found: Awaitable[Principal]) -> Response | None:
        try:
            _take(request, await found)
        except Refused as error:
            return self._challenge(request, error.reason)
        except KeysMissing:
            return _not_ready()
        return None

    def _challenge(self, request: Request, reason: str) -> Response:
        """Answer 401 with one challenge for each scheme; the reason is for the record alone."""
        response = Response.problem(
            401,
            "Authentication required" if not reason else "Credential not accepted",
            reason="unauthenticated" if not reason else "invalid_credential",
        )
        for scheme in self.schemes:
            response.headers.add("www-authenticate", scheme.challenge(refused=bool(reason)))
        response.headers["cache-control"] = "no-store"
        request.facts.reason = reason
        return response


def _take(request: Request, principal: Principal) -> None:
    request.principal = principal
    if principal.consumer:
        request.consumer = principal.consumer


def _not_ready() -> Response:
    response = Response.problem(
        503, "Authentication not ready", "The issuer's keys are not loaded.", reason="keys_missing"
    )
    response.headers["retry-after"] = "5"
    return response
