"""One gateway file as a whole, without Envoy: raw bytes in, a verdict and how it came about out."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING

from extproc.adapters.wire import may_set
from extproc.core.chain import BodyMode, Chain
from extproc.core.errors import ConfigFault
from extproc.core.exchange import Exchange
from extproc.core.headers import Headers
from extproc.core.law import Side
from extproc.core.messages import Answer, Body, BodyAnswer, Continue, RequestHeaders
from extproc.core.records import Record
from extproc.core.routes import PathPattern, Route
from extproc.core.values import Request
from extproc.envoy_config.compile import buffering
from extproc.offline import outside
from extproc.offline.edge import Arrival, Edge, arrive
from extproc.offline.raw import Rejected, read
from extproc.offline.routing import Matched, NotMatched, Routing
from extproc.offline.trace import Step, Trace, TracingGuard
from extproc.offline.verdict import Upstream, Verdict, of_record, of_rejected, of_unmatched
from extproc.testing import Counts, DirectRuntime, Events, ManualClock

if TYPE_CHECKING:
    from extproc.config.build import Assembly
    from extproc.config.schema import Route as RouteModel

REQUEST_ID = "00000000-0000-4000-8000-000000000000"
LOOPBACK = "127.0.0.1"
_TOO_LARGE = Rejected(413, "request_payload_too_large", "the body is over max_request_bytes")
_UNFINISHED = Rejected(408, "stream_idle_timeout", "the body is shorter than was announced")


class NotStarted(ConfigFault):
    """A plugin's `on_start` failed; the message says whose."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that is known of one request.

    Attributes:
        verdict: what became of it.
        arrival: as the service would get it, or why Envoy refuses it.
        found: the route, or why there is none; None where it didn't come so far.
        steps: of the plugins, in order.
        unseen: plugins that would see the response.
        version: of the gateway file.
        waits: Envoy waits for what isn't there of a body, until its patience ends.
    """

    verdict: Verdict
    arrival: Arrival | Rejected
    found: Matched | NotMatched | None = None
    steps: tuple[Step, ...] = ()
    unseen: tuple[str, ...] = ()
    version: str = ""
    waits: bool = False


@dataclass(slots=True)
class Kept:
    """A recorder that keeps the last record."""

    last: list[Record] = field(default_factory=list)

    def record(self, record: Record) -> None:
        """Keep one."""
        self.last = [record]


class Gate:
    """Judges requests by one gateway file.

    Args:
        assembly: the gateway file; it must not serve traffic, for its assertions are signed with a
            key made here.
        now: where the clock stands, seconds since the epoch.

    Attributes:
        routes: by name; their plugins call nobody.
        clock: stands still.
        counts: what was measured.
        log: what was logged.
    """

    def __init__(self, assembly: Assembly, now: float) -> None:
        loaded = assembly.loaded
        self.assembly = assembly
        if assembly.signer is not None:  # what is shown here must convince no backend
            assembly.signer.distrust()
        self.clock = ManualClock(now)
        self.counts = Counts()
        self.log = Events()
        self._trace = Trace(now=now)
        self._background = outside.Background()
        self._models = {route.name: route for route in loaded.gateway.routes}
        self._edge = Edge.of(loaded.gateway, interim=not buffering(assembly.modes))
        self._routing = Routing(loaded.gateway.routes, published=bool(assembly.published))
        self.routes = {name: self._route(name) for name in assembly.steps}

    def _route(self, name: str) -> Route:
        """Return a route whose guards are watched."""
        ports = (DirectRuntime(self.clock), self.counts, self.log)
        guards = [
            TracingGuard.of(step.plugin, step.name, step.limits, self._trace, ports)
            for step in self.assembly.steps[name]
        ]
        pattern = PathPattern.parse(self._models[name].match.path)
        return Route(name, self.assembly.loaded.version, pattern, Chain(guards), 1.0)

    def note(self, text: str) -> None:
        """Put something into the step that is being made."""
        self._trace.notes.append(text)

    async def start(self) -> None:
        """Start every plugin.

        Raises:
            NotStarted: one can't be.
        """
        given = outside.services(self._trace, self.clock, self.counts, self.log, self._background)
        for plugin in self.assembly.plugins():
            try:
                waits = plugin.on_start(given)
                if isawaitable(waits):
                    await waits
            except Exception as error:
                name = type(plugin).__name__
                raise NotStarted(f"{name} didn't start: {type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Stop every plugin."""
        for plugin in self.assembly.plugins():
            waits = plugin.on_stop()
            if isawaitable(waits):
                await waits
        await self._background.stop()

    async def judge(self, raw: bytes, address: str = LOOPBACK) -> Judgement:
        """Judge one request.

        Args:
            raw: its bytes.
            address: where the connection comes from.
        """
        message = read(raw)
        if isinstance(message, Rejected):
            return Judgement(of_rejected(message), message)
        arrival = arrive(message, self._edge, address, REQUEST_ID)
        if isinstance(arrival, Rejected):
            return Judgement(of_rejected(arrival), arrival)
        found = self._routing.find(arrival)
        if isinstance(found, NotMatched):
            verdict = of_unmatched(found, arrival.host, arrival.path)
            return Judgement(verdict, arrival, found)
        return await self._judged(arrival, found)

    async def _judged(self, arrival: Arrival, found: Matched) -> Judgement:
        model, route = found.route, self.routes[found.route.name]
        if len(arrival.body) > self._largest(route):
            return Judgement(of_rejected(_TOO_LARGE), arrival, found)
        self._trace.steps = []
        kept = Kept()
        request = _request(arrival)
        exchange = Exchange(lambda _key: route, self.clock.monotonic, self.counts, kept)
        answer = await _exchanged(exchange, request, route, arrival)
        await exchange.finish()
        if answer is None:
            steps = tuple(self._trace.steps)
            return Judgement(of_rejected(_UNFINISHED), arrival, found, steps, waits=True)
        (record,) = kept.last
        upstream = _upstream(self.assembly, model, arrival, request, answer)
        return Judgement(
            of_record(record, upstream),
            arrival,
            found,
            tuple(self._trace.steps),
            _unseen(route.chain) if upstream is not None else (),
            self.assembly.loaded.version,
        )

    def _largest(self, route: Route) -> float:
        """Return how much Envoy would buffer of a body; what passes in pieces has no bound."""
        listener, modes = self.assembly.loaded.gateway.listener, route.chain.modes
        if modes.request_body is not BodyMode.BUFFERED:
            return float("inf")
        whole = modes.response_body is BodyMode.BUFFERED
        return max(listener.max_request_bytes, listener.max_response_bytes if whole else 0)


def _request(arrival: Arrival) -> Request:
    return Request(
        method=arrival.method,
        scheme=arrival.scheme,
        host=arrival.host,
        target=arrival.target,
        headers=Headers(arrival.fields),
        request_id=REQUEST_ID,
        address=arrival.address,
    )


async def _exchanged(
    exchange: Exchange, request: Request, route: Route, arrival: Arrival
) -> Answer | None:
    """Give the exchange what Envoy would: headers, and the body where a plugin wants it.

    Returns:
        The last answer; None where Envoy goes on waiting for the body.
    """
    event = RequestHeaders(request, route.key, not arrival.framed)
    answer = await exchange.receive(event)
    wanted = route.chain.modes.request_body
    withheld = isinstance(answer, Continue) and arrival.framed and wanted is not BodyMode.NONE
    if not withheld:
        return answer
    if arrival.cut and wanted is BodyMode.BUFFERED:
        return None
    return await exchange.receive(Body(Side.REQUEST, arrival.body, end=not arrival.cut))


def _upstream(
    assembly: Assembly, model: RouteModel, arrival: Arrival, request: Request, answer: Answer
) -> Upstream | None:
    """Return what the upstream gets of a request that is let through."""
    if model.upstream is None or not isinstance(answer, Continue | BodyAnswer):
        return None
    gone = set(assembly.loaded.gateway.removed_headers(model))
    received = Headers(arrival.fields).joined()
    written = {n: value for n, value in request.headers.joined().items() if may_set(n)}
    # What a plugin writes into a forbidden header isn't sent; what came stays.
    kept = {n: value for n, value in received.items() if not may_set(n)}
    headers = {n: value for n, value in (kept | written).items() if n not in gone}
    target = request.rewritten if request.rewritten is not None else request.target
    return Upstream(model.upstream, target, headers)


def _unseen(chain: Chain) -> tuple[str, ...]:
    hooks = ("on_response", "on_response_body")
    return tuple(
        guard.name for guard in chain.guards if any(map(type(guard.plugin).overrides, hooks))
    )
