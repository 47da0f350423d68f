"""What lies behind the cache on a route, asked without a client: for validation in the background.

The request is the one that caused it: its headers as they came to the cache, taken once more
through the plugins between cache and upstream, so the upstream gets what it would have got (a
fresh identity assertion too), and its answer takes the same way back before it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING

from extproc.caching.validating import CONDITIONS
from extproc.core.headers import OF_CONNECTION, Headers
from extproc.core.plugin import Plugin
from extproc.core.values import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.ports import Services

# Of one connection (RFC 9110 section 7.6.1), of a body that isn't there, or of the egress listener.
_LEFT_OUT = OF_CONNECTION | {*CONDITIONS, "accept-encoding", "x-extproc-upstream"}


@dataclass(frozen=True, slots=True)
class Behind:
    """The way from the cache to the upstream and back.

    Attributes:
        upstream: its name; empty where the last plugin answers.
        plugins: those behind the cache, in their order.
        removed: headers that Envoy takes out on this route before the upstream.
        largest: bytes of an answer that are read.
    """

    upstream: str = ""
    plugins: tuple[Plugin, ...] = ()
    removed: frozenset[str] = frozenset()
    largest: int = 1 << 20

    async def ask(
        self,
        services: Services,
        request: Request,
        headers: Headers,
        conditions: Iterable[tuple[str, str]],
    ) -> Response:
        """Make the request once more.

        Args:
            services: of the cache.
            request: the one that caused it.
            headers: of it, as they came to the cache.
            conditions: by which what is stored is validated.

        Returns:
            The answer as the cache would have seen it.

        Raises:
            UpstreamFault: no usable answer.
        """
        again = _again(request, headers)
        for pair in conditions:
            again.headers.add(*pair)
        for place, plugin in enumerate(self.plugins):
            again.slot = place
            found = plugin.on_request(again)
            answer = await found if isawaitable(found) else found
            if answer is not None:
                return await self._back(again, answer, place)
        return await self._back(again, await self._called(services, again), len(self.plugins))

    async def _called(self, services: Services, request: Request) -> Response:
        sent = [pair for pair in request.headers.items() if pair[0] not in self.removed]
        answer = await services.call(
            self.upstream,
            "GET",
            request.rewritten or request.target,
            headers=sent,
            max_bytes=self.largest,
            host=request.host,
        )
        response = Response(200, answer.headers, answer.body)
        response.status = answer.status
        response.code_details = "via_upstream"
        del response.headers["content-encoding"]  # the body is decoded
        return response

    async def _back(self, request: Request, response: Response, before: int) -> Response:
        """Take an answer through the plugins before a place, last to first."""
        response.ended = True
        hooks = list(enumerate(self.plugins[:before]))[::-1]
        for place, plugin in hooks:
            request.slot = place
            found = plugin.on_response(request, response)
            response = (await found if isawaitable(found) else found) or response
        for place, plugin in hooks:
            request.slot = place
            body = plugin.on_response_body(request, response, response.body or b"")
            changed = await body if isawaitable(body) else body
            if isinstance(changed, Response):
                response = changed
            elif changed is not None:
                response.body = changed
        return response


class _HeadersAgain(Headers):
    """The headers as they came to the cache; what the client sent is still known beside."""

    def __init__(self, pairs: Iterable[tuple[str, str]], first: Headers) -> None:
        super().__init__(pairs)
        self._first = first

    def received(self, name: str) -> str:
        """Return a header's value as it came: what calls forward is the client's own."""
        return self._first.received(name)


def _again(request: Request, headers: Headers) -> Request:
    kept = [pair for pair in headers.items() if pair[0] not in _LEFT_OUT]
    again = Request(
        method="GET",
        scheme=request.scheme,
        host=request.host,
        target=request.target,
        headers=_HeadersAgain([*kept, ("accept-encoding", "identity")], request.headers),
        request_id=request.id,
        address=request.address,
        route=request.route,
        attributes=request.attributes,
    )
    if request.rewritten is not None:
        again.rewrite(request.rewritten)
    again.params = request.params
    again.principal = request.principal
    again.consumer = request.consumer
    again.max_age = request.max_age
    again.metadata.update(request.metadata)
    return again
