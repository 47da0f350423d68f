"""The plugin that decides who is calling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authentication.schemes import name_of_crumb
from extproc.authentication.tokens import NotReady, Refused
from extproc.core.plugin import Plugin
from extproc.core.principal import ANONYMOUS, Principal
from extproc.core.values import MalformedRequest, Response, parse_query
from extproc.core.waiting import discard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from extproc.authentication.schemes import Scheme
    from extproc.core.ports import Services
    from extproc.core.values import Request


class Authenticate(Plugin):
    """Concludes a principal from the request's credential, or answers 401.

    Attributes:
        schemes: the places and kinds of credentials that the route accepts.
        anonymous: whether a request without a credential may go on.
        every: whether a credential is demanded in every place; the last one's principal is taken.
    """

    schemes: tuple[Scheme, ...]
    anonymous: bool = False
    every: bool = False

    def on_start(self, services: Services) -> None:
        """Prepare every scheme."""
        self._revoked = services.revocations.hold
        self._metrics = services.metrics
        for scheme in self.schemes:
            scheme.start(services)

    def on_request(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Set the request's principal."""
        try:
            if self.every:
                return self._each(request)
            scheme, credential = self._presented(request)
            if scheme is None:
                return None if self.anonymous else self._challenge(request, "")
            found = scheme.verify(credential, request)
            if isinstance(found, Principal):
                self._take(request, found)
                return None
        except Refused as error:
            return self._challenge(request, error.reason)
        except NotReady as error:
            return self._not_ready(request, error)
        return self._waited(request, (found,))

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """Return what asks for each kind of credential that is accepted (RFC 9110 11.6.1)."""
        kinds = [c for scheme in self.schemes for c in scheme.challenges(refused=refused)]
        return tuple(dict.fromkeys(kinds))

    def _presented(self, request: Request) -> tuple[Scheme | None, str]:
        """Return the one credential and its place; two are never reconciled.

        A connection's certificate counts only where the request itself presents nothing.

        Raises:
            Refused: there are several, or one can't be read.
        """
        found: tuple[Scheme | None, str] = (None, "")
        for scheme in self.schemes:
            credential = scheme.presented(request)
            if credential is None:
                continue
            if found[0] is None or found[0].of_connection:
                found = (scheme, credential)
            elif not scheme.of_connection:
                raise Refused("several_credentials")
        return found

    def _each(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Demand a credential in every place.

        Raises:
            Refused: one isn't accepted.
            NotReady: one can't be judged now.
        """
        presented = [(scheme, scheme.presented(request)) for scheme in self.schemes]
        given = [(scheme, credential) for scheme, credential in presented if credential is not None]
        if len(given) < len(presented):
            return self._challenge(request, "credential_missing" if given else "")
        left: list[Principal | Awaitable[Principal]] = []
        try:
            for scheme, credential in given:
                found = scheme.verify(credential, request)
                if left or not isinstance(found, Principal):
                    left.append(found)  # in order: the last one's principal is taken
                else:
                    self._take(request, found)
        except (Refused, NotReady):
            _let_go(left)
            raise
        return self._waited(request, left) if left else None

    async def _waited(
        self, request: Request, found: Sequence[Principal | Awaitable[Principal]]
    ) -> Response | None:
        waiting = list(found)
        try:
            while waiting:
                one = waiting.pop(0)
                self._take(request, one if isinstance(one, Principal) else await one)
        except Refused as error:
            return self._challenge(request, error.reason)
        except NotReady as error:
            return self._not_ready(request, error)
        finally:
            _let_go(waiting)
        return None

    def _take(self, request: Request, principal: Principal) -> None:
        if self._revoked(principal):
            raise Refused("revoked")
        if request.principal is not ANONYMOUS:
            request.beside += (request.principal,)
        request.principal = principal
        if principal.consumer:
            request.consumer = principal.consumer

    def _challenge(self, request: Request, reason: str) -> Response:
        """Answer 401 with one challenge for each kind; the reason is for the record alone."""
        request.principal = ANONYMOUS  # of several that are demanded, one may have been good
        request.beside = ()
        request.consumer = ""
        self._count(request, "deny", reason or "unauthenticated")
        response = Response.problem(
            401,
            "Authentication required" if not reason else "Credential not accepted",
            reason="unauthenticated" if not reason else "invalid_credential",
        )
        for challenge in self.challenges(refused=bool(reason)):
            response.headers.add("www-authenticate", challenge)
        response.headers["cache-control"] = "no-store"
        request.facts.reason = reason
        return response

    def _not_ready(self, request: Request, error: NotReady) -> Response:
        self._count(request, "error", error.reason)
        response = Response.problem(
            503, "Authentication not ready", error.detail, reason=error.reason
        )
        response.headers["retry-after"] = "5"
        return response

    def _count(self, request: Request, decision: str, reason: str) -> None:
        self._metrics.count("extproc_decisions_total", (request.route, decision, reason))


def _let_go(left: Sequence[Principal | Awaitable[Principal]]) -> None:
    for one in left:
        if not isinstance(one, Principal):
            discard(one)


class HideCredentials(Plugin):
    """Takes tokens out of cookies and parameters, where no rule of Envoy's can.

    Attributes:
        cookies: names.
        parameters: names, decoded.
    """

    cookies: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    def on_request(self, request: Request) -> None:
        """Leave out every one, wherever it came from; later plugins don't see it either."""
        if self.cookies:
            self._without_cookies(request)
        if self.parameters:
            if request.query:
                self._without_parameters(request)
            # A page that was opened with one says so to whatever it asks for.
            referer = request.headers.get("referer")
            if referer is not None and "?" in referer:
                self._without_in_referer(request, referer)

    def _without_cookies(self, request: Request) -> None:
        crumbs = ";".join(request.headers.get_all("cookie")).split(";")
        crumbs = [trimmed for crumb in crumbs if (trimmed := crumb.strip(" \t"))]
        kept = [crumb for crumb in crumbs if name_of_crumb(crumb) not in self.cookies]
        if len(kept) == len(crumbs):
            return
        if kept:
            request.headers["cookie"] = "; ".join(kept)
        else:
            del request.headers["cookie"]

    def _without_parameters(self, request: Request) -> None:
        if not request.queries.keys().isdisjoint(self.parameters):
            request.take_query(self._kept(request.query))

    def _without_in_referer(self, request: Request, referer: str) -> None:
        before, _, behind = referer.partition("?")
        query, mark, fragment = behind.partition("#")
        try:
            kept = self._kept(query)
        except MalformedRequest:
            kept = ""  # what can't be read may hold one
        if kept != query:
            request.headers["referer"] = f"{before}?{kept}{mark}{fragment}" if kept else before

    def _kept(self, query: str) -> str:
        """Return a query without these parameters.

        Raises:
            MalformedRequest: it can't be decoded.
        """
        pairs = query.split("&")
        return "&".join(p for p in pairs if parse_query(p).keys().isdisjoint(self.parameters))
