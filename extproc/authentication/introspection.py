"""Opaque tokens, judged by the server that issued them (RFC 7662), with a bounded memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from extproc.authentication import tokens, uses
from extproc.authentication.jwt import scopes_of
from extproc.authentication.proofs import not_otherwise_bound
from extproc.authentication.tokens import NotReady, Refused
from extproc.core.errors import UpstreamFault
from extproc.core.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.core.answered import Answered
    from extproc.core.ports import Services

_OK = 200
_MOST_REMEMBERED = 10_000
_MOST_REMEMBERED_BYTES = 16 << 20  # of what servers say of tokens; some ten times that in memory
_MOST_ASKED = 256
_MOST_BYTES = 256 << 10
_LONGEST_TOKEN = 8192
_REFUSALS_FOR = 5.0  # seconds; a token that isn't active yet may be soon
_CLOCKS_DIFFER = 5.0  # seconds
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask.

    Attributes:
        url: the introspection endpoint.
        client_id: this gateway's name there.
        client_secret: its password.
        remember: seconds that an active token isn't asked about again.
        timeout: seconds for one question.
        audiences: one of them must be in `aud`; empty for any.
        issuer: exactly `iss`; empty for any.
    """

    url: str
    client_id: str
    client_secret: str
    remember: float = 60.0
    timeout: float = 3.0
    audiences: frozenset[str] = frozenset()
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was concluded: a principal, or why not; until when; of how many bytes."""

    principal: Principal | None
    reason: str
    until: float
    size: int


class Introspection:
    """Asks one server; what it said of a token is never used for another server."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self._server = server
        self._known: dict[bytes, _Answer] = {}
        self._size = 0  # of what is known, bytes
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}

    def start(self, services: Services) -> None:
        """Take what is needed to ask."""
        self._services = services

    def verify(self, credential: str) -> Principal | Awaitable[Principal]:
        """Ask about a token, or remember what was said.

        Raises (at once, or from the awaitable):
            Refused: `inactive`, `introspection`, `typ`, `cnf`, `aud`, `iss`, `exp`, `nbf`, `sub`.
            NotReady: the server can't be asked.
        """
        if len(credential) > _LONGEST_TOKEN:
            raise Refused("too_large")
        # The token itself isn't kept: a memory dump holds no credential of an hour ago.
        mark = hashlib.sha256(credential.encode(errors="surrogateescape")).digest()
        known = self._known.get(mark)
        if known is not None and self._services.clock.now() < known.until:
            return _concluded(known)
        return self._asked(credential, mark)

    async def _asked(self, credential: str, mark: bytes) -> Principal:
        """Join the question about this token that is on its way, or ask it."""
        asking = self._asking.get(mark)
        if asking is None:
            # Callers that went away don't end their questions, so these have a bound of their own.
            if len(self._asking) >= _MOST_ASKED:
                raise NotReady("authentication_busy", "Too many tokens are being checked.")
            asking = asyncio.ensure_future(self._ask(credential))
            self._asking[mark] = asking
            asking.add_done_callback(lambda task: self._keep(mark, task))
        return _concluded(await asyncio.shield(asking))

    def _keep(self, mark: bytes, task: asyncio.Task[_Answer]) -> None:
        del self._asking[mark]
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        self._forget(mark)
        self._size += answer.size
        self._known[mark] = answer
        while len(self._known) > _MOST_REMEMBERED or self._size > _MOST_REMEMBERED_BYTES:
            self._forget(next(iter(self._known)))

    def _forget(self, mark: bytes) -> None:
        known = self._known.pop(mark, None)
        if known is not None:
            self._size -= known.size

    async def _ask(self, credential: str) -> _Answer:
        server, services = self._server, self._services
        try:
            answer = await services.fetch.fetch(
                server.url,
                method="POST",
                headers=_headers(server),
                body=urlencode({"token": credential, "token_type_hint": "access_token"}).encode(),
                seconds=server.timeout,
                max_bytes=_MOST_BYTES,
            )
        except UpstreamFault as fault:
            raise self._failed(str(fault)) from fault
        if answer.status != _OK:
            raise self._failed(f"status {answer.status}")
        now = services.clock.now()
        try:
            principal, until = self._judged(_read(answer), now)
        except Refused as refusal:
            services.metrics.count("extproc_introspections_total", ("refused",))
            return _Answer(None, refusal.reason, now + _REFUSALS_FOR, 0)
        services.metrics.count("extproc_introspections_total", ("active",))
        until = min(until, now + server.remember)
        return _Answer(principal, "", until, len(answer.body))

    def _failed(self, problem: str) -> NotReady:
        self._services.log.warning("token not introspected", by=self.name, error=problem)
        self._services.metrics.count("extproc_introspections_total", ("failed",))
        return NotReady("introspection_failed", "The token's issuer doesn't answer.")

    def _judged(self, members: dict[str, Any], now: float) -> tuple[Principal, float]:
        """Read the answer (RFC 7662 section 2.2): only the literal `true` is active."""
        if members.get("active") is not True:
            raise Refused("inactive" if members.get("active") is False else "introspection")
        uses.check_claims(members)
        not_otherwise_bound(members)
        server = self._server
        if server.audiences and server.audiences.isdisjoint(tokens.audiences(members.get("aud"))):
            raise Refused("aud")
        issuer = members.get("iss", "")
        if not isinstance(issuer, str) or (server.issuer and issuer != server.issuer):
            raise Refused("iss")
        until = tokens.moment(members, "exp", "exp") if "exp" in members else now + server.remember
        if now >= until:
            raise Refused("exp")
        if "nbf" in members and now < tokens.moment(members, "nbf", "nbf"):
            raise Refused("nbf")
        subject = members.get("sub", members.get("username", ""))
        if not isinstance(subject, str):
            raise Refused("sub")
        principal = Principal(
            "introspection",
            self.name,
            subject,
            issuer,
            scopes_of(members),
            MappingProxyType(members),
            ahead=_CLOCKS_DIFFER,
        )
        return principal, until


def _read(answer: Answered) -> dict[str, Any]:
    content_type = answer.headers.get("content-type") or ""
    if content_type.partition(";")[0].strip().lower() != _JSON:
        raise Refused("introspection")
    try:
        return tokens.json_object(answer.body)
    except Refused as error:
        raise Refused("introspection") from error


def _concluded(answer: _Answer) -> Principal:
    if answer.principal is None:
        raise Refused(answer.reason)
    return answer.principal


def _headers(server: Server) -> list[tuple[str, str]]:
    """Name and password are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    pair = f"{quote(server.client_id, safe='')}:{quote(server.client_secret, safe='')}"
    return [
        ("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", _JSON),
    ]
