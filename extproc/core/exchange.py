"""One exchange: messages in, one answer each, under the law (`law.py`) and a route's chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.core.chain import BodyMode, Stopped
from extproc.core.content import STATUSES, is_grpc, is_without
from extproc.core.errors import PeerFault
from extproc.core.law import Law, Message, Reply, Side
from extproc.core.lawful import message_of, reply_of
from extproc.core.messages import (
    ANSWERS,
    Answer,
    Body,
    BodyAnswer,
    Continue,
    Event,
    GiveUp,
    Immediate,
    RequestHeaders,
    ResponseHeaders,
    Trailers,
    TrailersAnswer,
)
from extproc.core.records import Record, decision_of
from extproc.core.values import MalformedRequest, Outcome, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from extproc.core.chain import Chain
    from extproc.core.ports import Observer
    from extproc.core.records import Recorder
    from extproc.core.routes import Route


# Each value stands for itself: clients don't read several in one field (RFC 6265 section 3).
_NEVER_SHARED = ("set-cookie", "www-authenticate", "proxy-authenticate")
_LARGE = 1 << 20  # bytes of an answer made here that leaves in pieces
_CHANGING = (BodyMode.BUFFERED, BodyMode.STREAMED)  # plugins may give the body another length


class Exchange:
    """The service's side of one HTTP request and its response.

    Feed it each message in turn with `receive`, and call `finish` at the end, whatever the end.

    Attributes:
        decision: `allow`, `deny` or `error`; empty while there is none.
    """

    # Most exchanges leave most of these as they are.
    request: Request | None = None
    response: Response | None = None
    route: Route | None = None
    decision = ""
    _by = ""
    _reason = ""
    _named = ""
    _partial: frozenset[Side] = frozenset()
    _status: int | None = None  # of what the client gets, once that is known
    _came = 0  # the status that came with the response's headers

    def __init__(
        self,
        find: Callable[[str], Route | None],
        now: Callable[[], float],
        observer: Observer,
        recorder: Recorder | None = None,
    ) -> None:
        self._find = find
        self._now = now
        self._observer = observer
        self._recorder = recorder
        self._law = Law()
        self._started = now()

    async def receive(self, event: Event) -> Answer:
        """Take one message and give its answer.

        Raises:
            PeerFault: the message may not come now; the stream must end with an error status.
        """
        answer = self.begin(event)
        return answer if isinstance(answer, ANSWERS) else await answer

    def begin(self, event: Event) -> Answer | Coroutine[Any, Any, Answer]:
        """Take one message.

        Returns:
            Its answer, or a coroutine for it where something may wait. A request whose hooks
            return at once and let it pass, the case that is to cost least, has its answer here.

        Raises:
            PeerFault: as for `receive`.
        """
        if type(event) is RequestHeaders:
            self._law.came(Side.REQUEST, Message.HEADERS_END if event.end else Message.HEADERS)
            answer = self._request_headers(event)
            if type(answer) is Continue:
                self._law.answered(Reply.CONTINUE)  # a body comes by way of a coroutine alone
                return answer
        else:
            self._law.came(*message_of(event))
            answer = self._later(event)
        if not isinstance(answer, ANSWERS):
            return self._finally(answer)
        self._law.answered(reply_of(answer))
        return answer

    async def _finally(self, waits: Coroutine[Any, Any, Answer]) -> Answer:
        answer = await waits
        self._law.answered(reply_of(answer))
        return answer

    async def _later(self, event: Event) -> Answer:
        match event:
            case ResponseHeaders():
                return await self._response_headers(event)
            case Body(side=Side.REQUEST):
                return await self._request_body(event)
            case Body():
                return await self._response_body(event)
            case Trailers(side=Side.REQUEST) if self._waits_for_body():
                # Judged as empty it might pass, and an answer to trailers can't change headers.
                return self._cut(self._known_request(), 400, "body_absent", "Body missing")
            case Trailers(side=Side.RESPONSE):
                return await self._response_trailers()
            case Trailers(side=side):
                return TrailersAnswer(side)
            case _:
                raise AssertionError(event)

    @property
    def judges_pieces(self) -> bool:
        """Say whether the route's plugins see the request's body in pieces, after the verdict."""
        return self.route is not None and self.route.chain.modes.request_body is BodyMode.STREAMED

    def _waits_for_body(self) -> bool:
        return not self.decision and self._chain().modes.request_body is BodyMode.BUFFERED

    def refuse(self, request: Request, response: Response) -> Immediate:
        """Answer a request that no route may take, in place of `receive`."""
        self.request = request
        return self._answered_here(request, Stopped(0, "", response))

    def unheard(self, *, told: bool) -> None:
        """Take the last answer back: who asked was gone before it left, and acted without it.

        Args:
            told: the decision had left before, with another answer.
        """
        self._status = None
        if not told:
            self.decision = self._by = self._reason = ""

    async def finish(self) -> None:
        """Count the exchange, and run every `on_finish`."""
        rest = self.close()
        if rest is not None:
            await rest

    def close(self) -> Coroutine[Any, Any, None] | None:
        """Count the exchange, and run every `on_finish`.

        Returns:
            A coroutine that runs them; None where no plugin wants to know.
        """
        route, request = self.route, self.request
        if request is None:
            return None
        if request.endings is not None:
            request.end()
        duration = self._now() - self._started
        decision = self.decision
        # What ended before it was decided Envoy records: it knows whether the client went away,
        # or what of the body it refused.
        if decision and self._recorder is not None:
            version = route.version if route is not None else self._named
            self._recorder.record(
                Record(request, version, decision, self._status, self._by, self._reason, duration)
            )
        if route is None:
            self._observer.count("extproc_exchanges_total", ("", decision or "unfinished"))
            return None
        counted = route.counters.get(decision)
        if counted is None:
            labels = (route.name, decision or "unfinished")
            counted = self._observer.counter("extproc_exchanges_total", labels)
            route.counters[decision] = counted
        counted(1)
        if not route.chain.has_finish:
            return None
        outcome = Outcome(decision, self._status, self._reason, self._by, duration)
        return route.chain.finish(request, outcome)

    def _request_headers(self, event: RequestHeaders) -> Answer | Coroutine[Any, Any, Answer]:
        request = self.request = event.request
        if not event.end:
            request.bodied = True
        if event.partial:
            self._partial = event.partial
        route = self.route = self._find(event.route_key)
        if route is None:
            return self._no_route(request, event.route_key)
        request.route = route.name
        if request.head.problem:
            return self._malformed(request, request.head.problem)
        try:
            request.params = route.params(request.path)
        except MalformedRequest as error:
            return self._malformed(request, str(error))
        stopped = route.chain.request(request)
        if stopped is None:
            if route.chain.modes.request_body is not BodyMode.BUFFERED:
                return self._allowed(request, route)
        elif isinstance(stopped, Stopped) and route.chain.ends_here(stopped):
            return self._answered_here(request, stopped)
        return self._request_judged(event, stopped)

    def _malformed(self, request: Request, problem: str) -> Immediate:
        return self._answered_here(request, Stopped(0, "", Response.malformed(problem)))

    def _cut(
        self, request: Request, status: int, reason: str = "body_cut", title: str = "Body refused"
    ) -> Immediate:
        """Answer where plugins that are to see a body whole can't, as its rest isn't here."""
        detail = "It isn't here as a whole." if reason == "body_cut" else ""
        response = Response.problem(status, title, detail, reason=reason)
        return self._answered_here(request, Stopped(0, "", response))

    async def _request_judged(
        self,
        event: RequestHeaders,
        outcome: Stopped | Coroutine[Any, Any, Stopped | None] | None,
    ) -> Answer:
        stopped = outcome if outcome is None or isinstance(outcome, Stopped) else await outcome
        if stopped is not None:
            return await self._local(stopped)
        request = event.request
        if self._chain().modes.request_body is BodyMode.BUFFERED:
            if not event.end:
                return Continue(Side.REQUEST)  # changes and verdict travel with the body
            return await self._body_absent(request)
        return self._allowed(request, self._known_route())

    def _allowed(self, request: Request, route: Route, body: bytes | None = None) -> Continue:
        self.decision = "allow"
        changes, target = request.headers.changes(), request.rewritten
        if target is None and body is None:
            if changes is None:
                return route.passes
            if changes.answers is not None:
                known = changes.answers.get(route.key)
                if known is None:
                    known = Continue(Side.REQUEST, changes, verdict=route.key)
                    changes.answers[route.key] = known
                return known
        return Continue(Side.REQUEST, changes, target, None, body, route.key)

    async def _body_absent(self, request: Request) -> Answer:
        """Run whole-body hooks for a request that has no body."""
        outcome = await self._chain().request_body(request, b"")
        if isinstance(outcome, Stopped):
            return await self._local(outcome)
        return self._allowed(request, self._known_route(), outcome or None)

    async def _request_body(self, event: Body) -> Answer:
        request = self._known_request()
        buffered = self._chain().modes.request_body is BodyMode.BUFFERED
        if buffered:
            if self.decision:
                raise PeerFault("more of a body came that had come whole")
            if not event.end and Side.REQUEST in self._partial:
                return self._cut(request, 413)
            request.body = event.data
        outcome = await self._chain().request_body(request, event.data)
        if isinstance(outcome, Stopped):
            return await self._local(outcome)
        body = None if outcome == event.data else outcome
        if not buffered:
            return BodyAnswer(Side.REQUEST, body)
        self.decision = "allow"
        request.body = outcome
        # That was all of it, also where trailers are what ends the request.
        verdict = self.route.key if self.route else None
        return BodyAnswer(
            Side.REQUEST,
            body,
            buffered=True,
            had_length=bool(request.headers.received("content-length")),
            changes=request.headers.changes(),
            target=request.rewritten,
            verdict=verdict,
        )

    async def _response_headers(self, event: ResponseHeaders) -> Answer:
        self._came = event.status
        if self.request is None or self.route is None:
            return Continue(Side.RESPONSE)  # a reply of Envoy's own on a stream with no request
        response = self.response = Response(headers=event.headers, body=None)
        response.status = event.status  # an upstream's may be any; ours are 200 to 599
        response.code_details = event.code_details
        response.ended = event.end
        chain = self.route.chain
        stopped = await chain.response(self.request, response)
        if stopped is not None:
            return await self._local(stopped)
        if chain.modes.response_body is BodyMode.BUFFERED:
            if not event.end:
                # Changes travel with the body; of gRPC, trailers may be all that follows.
                changes = response.headers.changes() if is_grpc(response.headers) else None
                return Continue(Side.RESPONSE, changes)
            outcome = await chain.response_body(self.request, response, b"")
            if isinstance(outcome, Stopped):
                return await self._local(outcome)
            return self._changed(event, response, outcome or None)
        return self._changed(event, response)

    async def _response_trailers(self) -> Answer:
        """Run whole-body hooks for a response of which trailers came and no body.

        The changes of its headers were to travel with the body, and an answer to trailers has room
        for none: the client would get what a plugin takes away. So the response is made anew, which
        costs it its trailers; but for gRPC, which has its status there.
        """
        request, response = self.request, self.response
        if request is None or response is None or self._status is not None:
            return TrailersAnswer(Side.RESPONSE)
        if self._chain().modes.response_body is not BodyMode.BUFFERED:
            return TrailersAnswer(Side.RESPONSE)
        outcome = await self._chain().response_body(request, response, b"")
        if isinstance(outcome, Stopped):
            return await self._local(outcome)
        self._status = response.status
        if is_grpc(response.headers):
            return TrailersAnswer(Side.RESPONSE)
        response.body = outcome
        return Immediate(response, bare=request.method == "HEAD")

    def _changed(
        self, event: ResponseHeaders, response: Response, body: bytes | None = None
    ) -> Continue:
        self._status = response.status
        changed = response.status != event.status
        bare = is_without(self._known_request().method, response.status)
        if bare:
            body = b"" if changed and not event.end else None
        return Continue(
            Side.RESPONSE,
            response.headers.changes(),
            status=response.status if changed else None,
            body=body,
            watch=not event.end and body is None and self._watches(),
            unsized=bare and (changed or self._chain().modes.response_body in _CHANGING),
        )

    def _watches(self) -> bool:
        return self._chain().modes.response_body is BodyMode.WATCHED and not self._released()

    async def _response_body(self, event: Body) -> Answer:
        if self.request is None or self.response is None or self._released():
            return GiveUp()
        buffered = self._chain().modes.response_body is BodyMode.BUFFERED
        if buffered and not event.end and Side.RESPONSE in self._partial:
            return self._cut(self.request, 502)
        if buffered and self.route is not None and len(event.data) > self.route.largest:
            return self._cut(self.request, 502, "upstream_too_large", "Upstream response too large")
        self.response.ended = event.end
        outcome = await self._chain().response_body(self.request, self.response, event.data)
        if isinstance(outcome, Stopped):
            return await self._local(outcome)
        body = None if outcome == event.data else outcome
        if not buffered:
            return BodyAnswer(Side.RESPONSE, body)
        status = None if self.response.status == self._came else self.response.status
        self._status = self.response.status
        bare = is_without(self.request.method, self.response.status)
        if bare:
            body = b"" if event.data else None
        return BodyAnswer(
            Side.RESPONSE,
            body,
            buffered=True,
            had_length=not bare and bool(self.response.headers.received("content-length")),
            changes=self.response.headers.changes(),
            status=status,
            unsized=bare,
        )

    def _released(self) -> bool:
        return (
            self.response is not None
            and self.route is not None
            and bool(self.response.released)
            and self.response.released >= self.route.chain.body_readers
        )

    async def _local(self, stopped: Stopped) -> Immediate:
        """Answer from here; the plugins before the one that answered see the response."""
        request = self._known_request()
        if self.route is not None and not self.route.chain.ends_here(stopped):
            stopped = await self.route.chain.outward(request, stopped)
        return self._answered_here(request, stopped)

    def _answered_here(self, request: Request, stopped: Stopped) -> Immediate:
        response = stopped.response
        response.bind(request.id)
        if response.body and response.status in STATUSES:
            response = response.copy()  # others may be given the one it was
            response.body = b""
        self._by, self._reason, self._status = stopped.by, response.reason, response.status
        self.decision = decision_of(response)
        return Immediate(response, self._needs_streaming(response), request.method == "HEAD")

    def _needs_streaming(self, response: Response) -> bool:
        """Say whether the streamed form is the better one, where it may be used.

        A body without a content type would be given text/plain by Envoy's local reply, and a
        large one would be one message. The streamed form has one value for each header, which
        those of a list can share (RFC 9110 section 5.3).
        """
        body, headers = response.body, response.headers
        if not body or (len(body) <= _LARGE and "content-type" in headers):
            return False
        return (
            self.response is None
            and self.route is not None
            and self.route.chain.modes.request_body is BodyMode.NONE
            and not any(len(headers.get_all(name)) > 1 for name in _NEVER_SHARED)
        )

    def _no_route(self, request: Request, key: str) -> Immediate:
        """Refuse what Envoy says is of a route, or of a version of it, that isn't in force."""
        request.route, _, self._named = key.partition("@")
        response = Response.problem(
            503, "Service not ready", "This route is not loaded.", reason="route_not_loaded"
        )
        response.headers["retry-after"] = "1"
        response.bind(request.id)
        self.decision, self._reason, self._status = "error", response.reason, 503
        return Immediate(response)

    def _known_request(self) -> Request:
        assert self.request is not None  # noqa: S101 - the law lets no body come before headers
        return self.request

    def _known_route(self) -> Route:
        assert self.route is not None  # noqa: S101 - as above
        return self.route

    def _chain(self) -> Chain:
        return self._known_route().chain
