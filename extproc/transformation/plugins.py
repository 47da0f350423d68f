"""One small plugin for each thing a route may change; a route has only those it asks for."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from extproc.core.content import DIGESTS
from extproc.core.entity_tags import marked, tags_of, unmarked
from extproc.core.further import UNSEEN, alone, vary
from extproc.core.headers import Written
from extproc.core.plugin import Plugin
from extproc.core.values import Request, Response
from extproc.expressions.conditions import Context
from extproc.expressions.memory import Memory
from extproc.expressions.projections import (
    NotJson,
    ShapeFailed,
    parsed,
    parsed_of_upstream,
    written,
)
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.headers import Headers
    from extproc.core.ports import Services
    from extproc.expressions.projections import Projection
    from extproc.expressions.templates import Template

_REDIRECT = 300
_NOT_MODIFIED = 304


def fill(headers: Headers, values: tuple[tuple[str, Template], ...], context: Context) -> None:
    """Set headers from templates; one without a value is taken out."""
    for name, template in values:
        try:
            headers[name] = template.header(context)
        except NoValue:
            del headers[name]


class Identity(Plugin):
    """Tells the upstream who is calling; what a client sent under these names is gone."""

    headers: tuple[tuple[str, Template], ...]
    send: bool = True

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock
        names = {name for _, template in self.headers for name in template.names}
        self._memory: Memory[Written] = Memory(names)

    def on_request(self, request: Request) -> None:
        """Replace the identity headers."""
        if self.send and request.principal.kind != "anonymous":
            if self._memory.applies:
                request.headers.put(self._told(request))
                return
            self._take_off(request)
            fill(request.headers, self.headers, Context(request, self._clock.now()))
        else:
            self._take_off(request)

    def _take_off(self, request: Request) -> None:
        for name, _ in self.headers:
            del request.headers[name]

    def _told(self, request: Request) -> Written:
        """Return what follows from the principal and what few requests differ in; made once."""
        known = self._memory.get(request)
        if known is not None:
            return known
        context = Context(request)
        pairs = [(name, _value(template, context)) for name, template in self.headers]
        return self._memory.put(request, Written(pairs))


def _value(template: Template, context: Context) -> str | None:
    try:
        return template.header(context)
    except NoValue:
        return None


class Rewrite(Plugin):
    """Gives the upstream another path; the query stays unless the new path has one."""

    path: Template

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def on_request(self, request: Request) -> Response | None:
        """Rewrite the path."""
        try:
            target = self.path.target(Context(request, self._clock.now()))
            keep = request.query and "?" not in target
            request.rewrite(f"{target}?{request.query}" if keep else target)
        except (NoValue, ValueError):
            return Response.malformed("A part of the path has no value.")
        return None


class RequestHeaders(Plugin):
    """Removes and sets headers on the way to the upstream."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, Template], ...] = ()

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def on_request(self, request: Request) -> None:
        """Change the request's headers."""
        for name in self.remove:
            del request.headers[name]
        fill(request.headers, self.set, Context(request, self._clock.now()))


class RequestBody(Plugin):
    """Shapes a JSON request body."""

    shape: Projection

    def on_request_body(self, request: Request, body: bytes) -> bytes | Response | None:
        """Replace the body; what isn't JSON is refused."""
        if not body:
            return None
        for name in DIGESTS:
            del request.headers[name]
        try:
            return written(self.shape.of(parsed(body)))
        except NotJson:
            return Response.problem(
                400, "Malformed body", "The body is not JSON.", reason="malformed_body"
            )
        except ShapeFailed:
            return Response.problem(
                400, "Malformed body", "The body has another shape.", reason="malformed_body"
            )


class ResponseHeaders(Plugin):
    """Removes and sets headers on the way to the client.

    Attributes:
        remove: names.
        set: name and value.
        varies: headers of the client that values are made of, in lower case; see `UNSEEN`. Empty
            where a cache in front says it.
    """

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, Template], ...] = ()
    varies: frozenset[str] = frozenset()

    def on_start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def on_response(self, request: Request, response: Response) -> None:
        """Change the response's headers."""
        for name in self.remove:
            del response.headers[name]
        fill(response.headers, self.set, Context(request, self._clock.now(), response))
        if self.varies:
            vary(response.headers, self.varies)
            if UNSEEN in self.varies:
                alone(response.headers)


class ResponseBody(Plugin):
    """Shapes a successful JSON response; errors of the upstream pass as they are.

    A successful response that isn't JSON is refused: the shape may be there to leave out what
    clients mustn't see.

    Attributes:
        shape: of all that have no view.
        views: by consumer.
        varies: headers of the client by which consumers are told apart, in lower case; see
            `UNSEEN`. Empty where a cache in front says it.
    """

    shape: Projection
    views: dict[str, Projection]
    varies: frozenset[str] = frozenset()

    def on_start(self, services: Services) -> None:  # noqa: ARG002 - as the port has it
        """Give each view a mark for its entity tags, unless there is one shape for all.

        Without marks a client that changes its consumer, or meets other views after a reload, would
        be told that what it has is still right: it sends the tags of all that it has of a URL
        (RFC 9111 section 4.3.1).
        """
        self._marks = {name: _mark(shape) for name, shape in self.views.items()}
        self._mark = _mark(self.shape) if self.views else ""

    def on_request(self, request: Request) -> None:
        """Ask for a whole, uncompressed answer: a part or an encoding can't be shaped."""
        headers = request.headers
        for name in ("accept-encoding", "range", "if-range"):
            del headers[name]
        if self._mark:
            self._unmark(request)

    def _unmark(self, request: Request) -> None:
        """Give the upstream the tags that it knows: of this view, or of any where one must hold."""
        headers, mine = request.headers, self._mark_for(request)
        known = headers.get("if-none-match")
        if known is not None and known.strip() != "*":
            tags = [tag for each in tags_of(known) if (tag := unmarked(each, mine)) is not None]
            if tags:
                headers["if-none-match"] = ", ".join(tags)
            else:
                del headers["if-none-match"]
                del headers["if-modified-since"]  # it doesn't count beside tags (9110 13.1.3)
        held = headers.get("if-match")
        if held is not None:
            marks = {self._mark, *self._marks.values()}
            headers["if-match"] = ", ".join([_without(each, marks) for each in tags_of(held)])

    def _mark_for(self, request: Request) -> str:
        return self._marks.get(request.consumer, self._mark)

    def on_response(self, request: Request, response: Response) -> None:
        """Say of what kind the answer will be, before a cache in front takes its headers."""
        headers = response.headers
        if response.status >= _REDIRECT and response.status != _NOT_MODIFIED:
            return
        for name in DIGESTS:
            del headers[name]
        if self._mark and (tag := headers.get("etag")) is not None:
            headers["etag"] = marked(tag, self._mark_for(request))
        if response.status == _NOT_MODIFIED:
            # What is named replaces what a cache has; what isn't stays (RFC 9111 section 4.3.4).
            vary(headers, self.varies if "vary" in headers else ())
        else:
            vary(headers, self.varies)
            if request.method == "HEAD" or not response.ended or response.body:
                headers["content-type"] = "application/json"
        if UNSEEN in self.varies:
            alone(headers)

    def on_response_body(
        self, request: Request, response: Response, body: bytes
    ) -> bytes | Response | None:
        """Replace the body."""
        if response.status >= _REDIRECT or not body:
            return None
        if "content-encoding" in response.headers:
            return _broken("The upstream sent an encoded answer.")
        try:
            shape = self.views.get(request.consumer, self.shape)
            shaped = written(shape.of(parsed_of_upstream(body)))
        except NotJson:
            return _broken("The upstream's answer is not JSON.")
        except ShapeFailed:
            return _broken("The upstream's answer has another shape.")
        return shaped


def _mark(shape: Projection) -> str:
    """Return what is the same in all workers and on all replicas, and in no other shape."""
    return sha256(shape.source.encode()).hexdigest()[:8]


def _without(tag: str, marks: Iterable[str]) -> str:
    """Return a tag without whichever of some marks it has."""
    return next((plain for mark in marks if (plain := unmarked(tag, mark)) is not None), tag)


def _broken(detail: str) -> Response:
    return Response.problem(502, "Upstream failed", detail, reason="upstream_not_json")
