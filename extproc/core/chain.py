"""The plugins of one route in their order: requests first to last, responses last to first."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from extproc.core.values import Outcome, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from extproc.core.guard import Guard
    from extproc.core.plugin import Plugin

Hook = tuple[int, "Guard", "Callable[..., Any]"]


class BodyMode(StrEnum):
    """How a body is delivered (ProcessingMode.BodySendMode)."""

    NONE = "none"
    BUFFERED = "buffered"
    STREAMED = "streamed"
    WATCHED = "watched"  # in pieces, where the answer to the response's headers asks for them


@dataclass(frozen=True, slots=True)
class Modes:
    """What a route needs to see; the compiler makes its processing mode of it.

    Request headers are always seen: no verdict, no upstream.
    """

    request_body: BodyMode = BodyMode.NONE
    response_headers: bool = False
    response_body: BodyMode = BodyMode.NONE


@dataclass(slots=True, init=False)
class Stopped:
    """A plugin answered in place of the upstream.

    Attributes:
        at: its place in the chain; the plugins before it see the response.
        by: its name.
        response: the answer.
    """

    at: int
    by: str
    response: Response

    def __init__(self, at: int, by: str, response: Response) -> None:
        self.at = at
        self.by = by
        self.response = response


class Chain:
    """Runs hooks in order; a hook that returns at once costs no wait."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = tuple(guards)
        self.modes = modes_of(guard.plugin for guard in self.guards)
        requests, bodies = self._hooks("on_request"), self._hooks("on_request_body")
        judge = self._judge()
        self._request = tuple([hook for hook in requests if hook[0] <= judge])
        self._judged = requests[len(self._request) :]  # wait until the body was judged
        self._judging = tuple([hook for hook in bodies if hook[0] <= judge])
        self._request_body = bodies[len(self._judging) :]
        self._response = self._hooks("on_response")[::-1]
        self._response_body = self._hooks("on_response_body")[::-1]
        self._finish = self._hooks("on_finish")
        self.has_finish = bool(self._finish)
        seers = [place for place, _, _ in (*self._response, *self._response_body)]
        self._first_to_see = min(seers, default=len(self.guards))
        self.body_readers = frozenset(place for place, _, _ in self._response_body)

    def _judge(self) -> int:
        """Return the place of the last plugin that judges a whole body; else the last place."""
        whole = self.modes.request_body is BodyMode.BUFFERED
        judges = [n for n, guard in enumerate(self.guards) if whole and guard.plugin.judges_body]
        return max(judges, default=len(self.guards) - 1)

    def _hooks(self, name: str) -> tuple[Hook, ...]:
        return tuple(
            (place, guard, getattr(guard.plugin, name))
            for place, guard in enumerate(self.guards)
            if type(guard.plugin).overrides(name)
        )

    def request(
        self, request: Request, hooks: Sequence[Hook] | None = None
    ) -> Stopped | Coroutine[Any, Any, Stopped | None] | None:
        """Run `on_request`; stop at the first plugin that answers.

        Args:
            request: the request.
            hooks: which; by default those that needn't wait until the body was judged.

        Returns:
            The outcome; a coroutine for it from the first hook that waits.
        """
        hooks = self._request if hooks is None else hooks
        for place, guard, hook in hooks:
            request.slot = place
            answer = guard.call("request", hook, request)
            if answer is None:
                continue
            if isinstance(answer, Response):
                return Stopped(place, guard.name, answer)
            return self._request_waits(hooks, request, place, guard.name, answer)
        return None

    async def _request_waits(
        self, hooks: Sequence[Hook], request: Request, place: int, name: str, waits: Any
    ) -> Stopped | None:
        answer = await _waited(waits)
        if isinstance(answer, Response):
            return Stopped(place, name, answer)
        rest = self.request(request, [hook for hook in hooks if hook[0] > place])
        return rest if rest is None or isinstance(rest, Stopped) else await rest

    async def request_body(self, request: Request, body: bytes) -> Stopped | bytes:
        """Run `on_request_body`; return the body as the last plugin left it.

        Where a plugin judges the body, those behind it see the request only now.
        """
        judged = await self._bodied(self._judging, request, body)
        if isinstance(judged, Stopped):
            return judged
        outcome = self.request(request, self._judged)
        stopped = outcome if outcome is None or isinstance(outcome, Stopped) else await outcome
        return stopped or await self._bodied(self._request_body, request, judged)

    async def _bodied(
        self, hooks: Sequence[Hook], request: Request, body: bytes
    ) -> Stopped | bytes:
        for place, guard, hook in hooks:
            request.slot = place
            answer = await _waited(guard.call("request_body", hook, request, body))
            if isinstance(answer, Response):
                return Stopped(place, guard.name, answer)
            if answer is not None:
                body = answer
        return body

    async def response(
        self, request: Request, response: Response, before: int | None = None
    ) -> Stopped | None:
        """Run `on_response` of the plugins before a place, last to first.

        Returns:
            Where a plugin put another response in place; the plugins before it haven't seen it.
        """
        for place, guard, hook in self._response:
            if before is not None and place >= before:
                continue
            request.slot = place
            answer = await _waited(guard.call("response", hook, request, response))
            if isinstance(answer, Response):
                return Stopped(place, guard.name, answer)
        return None

    async def response_body(
        self, request: Request, response: Response, body: bytes, before: int | None = None
    ) -> Stopped | bytes:
        """Run `on_response_body` of the plugins before a place, last to first."""
        for place, guard, hook in self._response_body:
            if before is not None and place >= before:
                continue
            request.slot = place
            answer = await _waited(guard.call("response_body", hook, request, response, body))
            if isinstance(answer, Response):
                return Stopped(place, guard.name, answer)
            if answer is not None:
                body = answer
        return body

    def ends_here(self, stopped: Stopped) -> bool:
        """Say whether no plugin before the one that answered wants to see the response."""
        return stopped.at <= self._first_to_see

    async def outward(self, request: Request, stopped: Stopped) -> Stopped:
        """Take a response made here through the plugins before the one that made it.

        A plugin on the way may put another response in place, which then goes on from there;
        each plugin sees at most one response, so this ends.
        """
        while True:
            if stopped.response.encoded is not None:
                stopped.response = stopped.response.copy()
            response = stopped.response
            response.bind(request.id)
            other = await self.response(request, response, stopped.at)
            if other is None:
                response.ended = True
                body = await self.response_body(request, response, response.body or b"", stopped.at)
                if isinstance(body, bytes):
                    response.body = body
                    return stopped
                other = body
            stopped = other

    async def finish(self, request: Request, outcome: Outcome) -> None:
        """Run every `on_finish`, whatever the others do."""
        for place, guard, hook in self._finish:
            request.slot = place
            await _waited(guard.call("finish", hook, request, outcome))


async def _waited(answer: Any) -> Response | bytes | None:
    if isinstance(answer, Awaitable):
        answer = await answer
    if answer is None or isinstance(answer, Response | bytes):
        return answer
    raise AssertionError(answer)  # the guard lets nothing else through


def modes_of(plugins: Iterable[Plugin]) -> Modes:
    """Return the least that a route with these plugins needs to see: overriding declares."""
    kinds = [type(plugin) for plugin in plugins]
    request_body = [kind for kind in kinds if kind.overrides("on_request_body")]
    response_body = [kind for kind in kinds if kind.overrides("on_response_body")]
    headers = any(kind.overrides("on_response") for kind in kinds)
    return Modes(
        _body_mode(request_body), headers or bool(response_body), _response_mode(response_body)
    )


def _response_mode(kinds: Sequence[type[Plugin]]) -> BodyMode:
    if kinds and all(kind.watching for kind in kinds):
        return BodyMode.WATCHED
    return _body_mode(kinds)


def _body_mode(kinds: Sequence[type[Plugin]]) -> BodyMode:
    if not kinds:
        return BodyMode.NONE
    if all(kind.streaming for kind in kinds):
        return BodyMode.STREAMED
    return BodyMode.BUFFERED
