"""The plugin that answers from stored responses."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, ClassVar

from extproc.caching import rules
from extproc.caching.rules import Stored
from extproc.core.headers import Headers
from extproc.core.plugin import Plugin
from extproc.core.values import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.core.ports import Services
    from extproc.core.values import Outcome, Request

_LARGEST = 1 << 20


class Cache(Plugin):
    """Stores responses of its route and answers from them while they are fresh.

    The body is taken in pieces as it passes, so the first byte isn't held back; what is too
    large is let go.

    Attributes:
        version: of the gateway file; another version's responses have another shape.
        ttl: seconds, where the response names no lifetime.
    """

    streaming: ClassVar[bool] = True
    version: str
    ttl: float

    def on_start(self, services: Services) -> None:
        """Take the store, the clock and the metrics."""
        self._services = services

    def on_request(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Answer from the store if a fresh response is there."""
        del request.headers["accept-encoding"]  # stored once, encoded for each client by Envoy
        state = request.state
        state.pieces, state.size, state.answered = None, 0, False
        state.key = rules.primary_key(request, self.version)
        if not rules.may_answer(request):
            state.forwarded = "request" if request.method in {"GET", "HEAD"} else "method"
            request.facts.cache = state.forwarded
            return None
        state.forwarded = "uri-miss"
        found = self._services.store.get(state.key)
        if found is None:
            self._miss(request)
            return None
        if isawaitable(found):
            return self._look(request, found)
        return self._variant(request, found)

    def _variant(
        self, request: Request, data: bytes
    ) -> Response | Awaitable[Response | None] | None:
        names = tuple(filter(None, data.decode("latin-1").split(",")))
        found = self._services.store.get(rules.variant_key(request.state.key, names, request))
        if isawaitable(found):
            return self._answer_when_found(request, found)
        return self._answer(request, found)

    async def _look(self, request: Request, found: Awaitable[bytes | None]) -> Response | None:
        data = await found
        if data is None:
            self._miss(request)
            return None
        answer = self._variant(request, data)
        return await answer if isawaitable(answer) else answer

    async def _answer_when_found(
        self, request: Request, found: Awaitable[bytes | None]
    ) -> Response | None:
        return self._answer(request, await found)

    def _answer(self, request: Request, data: bytes | None) -> Response | None:
        stored = Stored.read(data) if data is not None else None
        if stored is None:
            request.state.forwarded = "vary-miss"
            self._miss(request)
            return None
        now = self._services.clock.now()
        if now >= stored.expires:
            request.state.forwarded = "stale"
            self._miss(request)
            return None
        request.facts.cache = "hit"
        self._count(request, "hit")
        request.state.answered = True
        response = Response(stored.status, Headers(stored.headers), stored.body)
        response.headers["age"] = str(int(now - stored.stored + stored.initial_age))
        response.headers["cache-status"] = f"extproc; hit; ttl={int(stored.expires - now)}"
        return response

    def _miss(self, request: Request) -> None:
        request.facts.cache = request.state.forwarded
        self._count(request, "miss")

    def on_response(self, request: Request, response: Response) -> None:
        """Begin to take the body, if the response may be stored."""
        state = request.state
        storable = rules.may_store(request, response) and rules.lifetime(response, self.ttl) > 0
        if storable:
            state.pieces = []
        else:
            response.released.add(request.slot)
        stored = "; stored" if storable else ""
        response.headers["cache-status"] = f"extproc; fwd={state.forwarded}{stored}"

    def on_response_body(self, request: Request, response: Response, body: bytes) -> None:
        """Take a piece; at the last one, store."""
        state = request.state
        if state.pieces is None:
            return None
        state.size += len(body)
        if state.size > _LARGEST:
            state.pieces = None
            response.released.add(request.slot)
            self._count(request, "too_large")
            return None
        state.pieces.append(body)
        return self._store(request, response) if response.ended else None

    def _store(self, request: Request, response: Response) -> None:
        services, state = self._services, request.state
        body, state.pieces = b"".join(state.pieces), None
        stored = rules.to_store(response, body, services.clock.now(), self.ttl)
        names = rules.varying(response)
        if stored is None or names is None:
            return
        ttl = stored.expires - stored.stored
        self._put(state.key, ",".join(names).encode("latin-1"), ttl)
        self._put(rules.variant_key(state.key, names, request), stored.written(), ttl)
        self._count(request, "stored")

    def _put(self, key: str, data: bytes, ttl: float) -> None:
        """Store without making the response wait."""
        pending = self._services.store.set(key, data, ttl)
        if pending is not None:
            self._services.spawn(pending)

    def on_finish(self, request: Request, _outcome: Outcome) -> None:
        """Let go of what was taken of a response that broke off."""
        request.state.pieces = None

    def _count(self, request: Request, outcome: str) -> None:
        self._services.metrics.count("extproc_cache_total", (request.route, outcome))
