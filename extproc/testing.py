"""Small real implementations of the ports, and a way to try plugins without Envoy.

trial = Trial(Tenant(header="x-tenant"))
answer = await trial.request("GET", "/", host="acme.example.com")
assert trial.seen["x-tenant"] == "acme"
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from extproc.adapters.memory_objects import MemoryObjects
from extproc.adapters.memory_store import MemoryStore
from extproc.adapters.metrics import declared
from extproc.core.answered import Answered
from extproc.core.chain import BodyMode, Chain
from extproc.core.errors import DeadlinePassed, PluginFault, UpstreamFault
from extproc.core.exchange import Exchange
from extproc.core.guard import Guard, Limits
from extproc.core.headers import Headers
from extproc.core.law import Side
from extproc.core.messages import (
    Answer,
    Body,
    BodyAnswer,
    Continue,
    Immediate,
    RequestHeaders,
    ResponseHeaders,
)
from extproc.core.ports import Services, uncached
from extproc.core.routes import PathPattern, Route
from extproc.core.values import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from extproc.core.plugin import Plugin
    from extproc.core.replicas import Replicas
    from extproc.core.room import Room


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the same, as the clock never goes back."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class DirectRuntime:
    """A runtime that trusts hooks: it waits with a deadline but interrupts nothing."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.monotonic = (clock or ManualClock()).monotonic

    def arm(self, name: str, seconds: float) -> float:
        """Do nothing but tell the time."""
        del name, seconds
        return self.monotonic()

    def disarm(self) -> float:
        """Do nothing but tell the time."""
        return self.monotonic()

    async def wait(self, awaitable: Awaitable[Any], name: str, seconds: float) -> Any:
        """Await in a task of its own, with a deadline."""
        task: asyncio.Future[Any] = asyncio.ensure_future(awaitable)
        try:
            done, _ = await asyncio.wait((task,), timeout=seconds)
            if not done:
                raise DeadlinePassed(name)
            if task.cancelled():
                raise PluginFault("it was cancelled")
            return task.result()
        finally:
            task.cancel()

    async def offload(self, function: Callable[[], Any], name: str, seconds: float) -> Any:
        """Run in a thread, with a deadline."""

        async def run() -> Any:
            result = await asyncio.to_thread(function)
            return await result if inspect.isawaitable(result) else result

        return await self.wait(run(), name, seconds)


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[str, ...]], int] = {}

    def count(self, metric: str, labels: tuple[str, ...], by: int = 1) -> None:
        """Add to a counter.

        Raises:
            ValueError: a worker would refuse it.
        """
        declared(metric, labels)
        self.counts[metric, labels] = self.counts.get((metric, labels), 0) + by

    def timer(self, metric: str, labels: tuple[str, ...]) -> Callable[[float], object]:
        """Return what counts an observation; durations differ from run to run."""
        return lambda _seconds: self.count(metric, labels)

    def counter(self, metric: str, labels: tuple[str, ...]) -> Callable[[int], object]:
        """Count as `count` does."""
        return lambda by: self.count(metric, labels, by)


class Events:
    """A log that remembers: (level, event, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        """Remember."""
        self.events.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        """Remember."""
        self.events.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Remember."""
        self.events.append(("error", event, fields))


class Scripted:
    """A caller and fetcher whose answers are given beforehand, by upstream and target or URL."""

    def __init__(self, answers: Mapping[str, Answered | Exception] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[tuple[str, list[tuple[str, str]]]] = []
        self._got: dict[str, Answered] = {}

    async def call(
        self,
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,  # noqa: ASYNC109 - the port's
        max_bytes: int | None = None,
        room: Room | None = None,
        host: str = "",
    ) -> Answered:
        """Answer a call to `upstream` + `target`."""
        del method, body, timeout, max_bytes, room, host
        return self._answer(upstream + target, list(headers))

    async def fetch(
        self,
        url: str,
        *,
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        shared_for: float = 0.0,
        sound: Callable[[bytes], object] | None = None,
    ) -> Answered:
        """Answer a fetch."""
        del seconds, max_bytes, method, body
        answer = self._answer(url, list(headers))
        if shared_for and (sound is None or sound(answer.body)):
            self._got[url] = answer
        return answer

    def kept(self, url: str) -> Answered | None:
        """Return what was got last."""
        return self._got.get(url)

    def _answer(self, name: str, headers: list[tuple[str, str]]) -> Answered:
        self.calls.append((name, headers))
        answer = self.answers.get(name, UpstreamFault("connect", f"nothing at {name}"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def answered(body: bytes, status: int = 200, **headers: str) -> Answered:
    """Return what an upstream might answer."""
    return Answered(status, Headers(headers.items()), body)


class Trial:
    """Runs plugins as a route would, without Envoy.

    Attributes:
        clock: stands still until it is moved.
        outside: answers calls and fetches.
        counts: what was measured.
        log: what was logged.
        seen: the headers that the upstream got in the last exchange.
    """

    def __init__(self, *plugins: Plugin, path: str = "/*", limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        self.outside = Scripted()
        self.counts = Counts()
        self.log = Events()
        self.store = MemoryStore(self.clock)
        self.objects = MemoryObjects()
        self.replicas: Replicas | None = None
        self.seen = Headers()
        self._plugins = plugins
        self._limits = limits or Limits()
        self._path = path
        self._route: Route | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._shared: dict[Any, Any] = {}

    async def start(self) -> Route:
        """Start the plugins; `request` does so if it wasn't done."""
        if self._route is None:
            for plugin in self._plugins:
                started = plugin.on_start(self.services)
                if inspect.isawaitable(started):
                    await started
            runtime = DirectRuntime(self.clock)
            guards = [
                Guard(plugin, type(plugin).__name__, self._limits, runtime, self.counts, self.log)
                for plugin in self._plugins
            ]
            pattern = PathPattern.parse(self._path)
            self._route = Route("trial", "1", pattern, Chain(guards), 1.0)
        return self._route

    def share(self, other: Trial) -> None:
        """Share with another trial what plugins of one worker share; before the start."""
        self.clock, self.objects, self._shared = other.clock, other.objects, other._shared

    async def settled(self) -> None:
        """Wait until nothing runs in the background."""
        while self._background:
            await asyncio.gather(*self._background)

    @property
    def services(self) -> Services:
        """What plugins get in `on_start`."""

        def spawn(work: Awaitable[None]) -> None:
            task = asyncio.ensure_future(work)
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        return Services(
            call=self.outside.call,
            cached=uncached(self.outside.call),
            store=self.store,
            clock=self.clock,
            log=self.log,
            metrics=self.counts,
            fetch=self.outside,
            spawn=spawn,
            objects=self.objects,
            replicas=self.replicas,
            _shared=self._shared,
        )

    async def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        host: str = "shop",
        upstream: Callable[[Headers, bytes], Response] | None = None,
    ) -> Response:
        """Send one request through the plugins to an upstream and back.

        Args:
            method: for example `GET`.
            target: path and query.
            headers: of the request.
            body: of the request.
            host: the authority.
            upstream: gives the upstream's response to headers and body; 200 without one.

        Returns:
            What the client gets.
        """
        route = await self.start()
        exchange = self.exchange(route)
        seen = Headers((headers or {}).items())
        event = self.headers(target, route, method, seen, host=host, end=not body)
        try:
            answer = await exchange.receive(event)
            if isinstance(answer, Continue) and answer.verdict is None:
                answer = await exchange.receive(Body(Side.REQUEST, body, end=True))
            if isinstance(answer, Immediate):
                return answer.response
            self.seen = seen
            sent = getattr(answer, "body", None)
            response = (upstream or _fine)(seen, body if sent is None else sent)
            return await self._outward(exchange, route, response)
        finally:
            await exchange.finish()

    def exchange(self, route: Route) -> Exchange:
        """Return the service's side of one exchange, to feed it step by step."""
        return Exchange(lambda _key: route, self.clock.monotonic, self.counts)

    def headers(
        self,
        target: str,
        route: Route,
        method: str = "GET",
        headers: Headers | None = None,
        *,
        host: str = "shop",
        end: bool = True,
    ) -> RequestHeaders:
        """Return the first message of an exchange."""
        request = Request(
            method=method,
            host=host,
            target=target,
            headers=headers if headers is not None else Headers(),
            request_id="request-1",
            address="192.0.2.1",
        )
        return RequestHeaders(request, route.key, end)

    async def _outward(self, exchange: Exchange, route: Route, response: Response) -> Response:
        if not route.chain.modes.response_headers:
            return response
        body = response.body or b""
        received = Headers(response.headers.items())
        answer: Answer = await exchange.receive(
            ResponseHeaders(response.status, received, not body, "via_upstream")
        )
        if body and not isinstance(answer, Immediate) and _wants_body(route, answer):
            answer = await exchange.receive(Body(Side.RESPONSE, body, end=True))
        if isinstance(answer, Immediate):
            return answer.response
        changed = answer.body if isinstance(answer, Continue | BodyAnswer) else None
        status = getattr(answer, "status", None) or response.status
        return Response(status, received, body if changed is None else changed)


def _wants_body(route: Route, answer: Answer) -> bool:
    mode = route.chain.modes.response_body
    if mode is BodyMode.WATCHED:
        return isinstance(answer, Continue) and answer.watch
    return mode is not BodyMode.NONE


def _fine(_headers: Headers, _body: bytes) -> Response:
    return Response(200, {"content-type": "text/plain"}, b"fine")
