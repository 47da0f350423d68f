"""The gRPC services without a gRPC library: what a server calls for each stream and call.

Both servers (`grpcio`, and one of our own for an Envoy on the same host) stand on this: bytes
of one message in, the bytes of its answers out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from extproc.adapters import wire_authz, wire_log
from extproc.adapters.wire import decode, encode, override_timeout
from extproc.core.exchange import Exchange
from extproc.core.law import Side
from extproc.core.messages import (
    ANSWERS,
    Body,
    Continue,
    Immediate,
    RequestHeaders,
)
from extproc.core.ports import Clock, Log, Observer
from extproc.core.records import Recorder
from extproc.core.routes import Route, Routes
from extproc.core.values import Request, Response
from extproc.core.verdict import MESSAGE_TIMEOUT, MOST_TIMEOUT
from extproc.core.waiting import Waiting, start

if TYPE_CHECKING:
    from extproc.adapters.timers import Timers

ASK_AFTER = MESSAGE_TIMEOUT / 2
ACCESS_LOG_DONE = wire_log.DONE


@dataclass(frozen=True, slots=True)
class Deciding:
    """What every exchange of a worker shares.

    Attributes:
        match: finds the route of a request over ext_authz, by the key it came with or by its
            path: a route, the answer where none may take it, or None for one not in force.
        exchange: begins one.
    """

    routes: Routes
    clock: Clock
    observer: Observer
    log: Log
    match: Callable[[Request, str], Route | Response | None] | None = None
    recorder: Recorder | None = None
    exchange: Callable[[], Exchange] = field(init=False)

    def __post_init__(self) -> None:
        """Put together what begins an exchange."""
        begin = partial(
            Exchange, self.routes.find, self.clock.monotonic, self.observer, self.recorder
        )
        object.__setattr__(self, "exchange", begin)


def receive(exchange: Exchange, data: bytes) -> tuple[bytes, ...] | Waiting:
    """Take one message of a `Process` stream.

    Returns:
        The messages to send, none of them meaning a clean close; or, where a hook waits, a
        `Waiting` to await.

    Raises:
        PeerFault: end the stream with an error status.
    """
    answer = exchange.begin(decode(data))
    if type(answer) is Continue and answer.written:
        return answer.written
    if not isinstance(answer, ANSWERS):
        answer = start(answer)
        if isinstance(answer, Waiting):
            return answer
    return encode(answer)


async def answered(
    exchange: Exchange,
    waiting: Waiting,
    ask: Callable[[tuple[bytes, ...]], None],
    timers: Timers,
) -> tuple[bytes, ...]:
    """Await an answer that takes time; `ask` sends what asks Envoy for more where it is long."""
    seconds = remaining(exchange)
    entry = None
    if seconds > 0:
        entry = timers.add(ASK_AFTER, lambda: ask((override_timeout(seconds),)))
    try:
        return encode(await waiting)
    finally:
        if entry is not None:
            timers.drop(entry)
        waiting.close()


def remaining(exchange: Exchange) -> float:
    """Return how long the answer may still take, if that is more than Envoy waits."""
    route = exchange.route
    deadline = route.deadline if route is not None else 0.0
    return min(deadline, MOST_TIMEOUT) if deadline > MESSAGE_TIMEOUT - ASK_AFTER else 0.0


def finish(exchange: Exchange) -> Waiting | None:
    """End an exchange, whatever the end; returns what has to be awaited for it."""
    rest = exchange.close()
    if rest is None:
        return None
    waiting = start(rest)
    return waiting if isinstance(waiting, Waiting) else None


async def check(deciding: Deciding, data: bytes) -> bytes:
    """Answer one ext_authz `Check`: the same plugins, request side.

    Raises:
        PeerFault: the message is no CheckRequest.
    """
    event, body = wire_authz.decode(data)
    exchange = deciding.exchange()
    try:
        refusal = _routed(deciding, event)
        if refusal is not None:
            return wire_authz.encode(exchange.refuse(event.request, refusal))
        answer = await exchange.receive(event)
        if (body or event.partial) and exchange.judges_pieces:
            # The verdict came with the headers; over ext_authz no piece would ever be judged.
            answer = Immediate(wire_authz.unsupported())
        elif isinstance(answer, Continue) and answer.verdict is None:
            answer = await exchange.receive(Body(Side.REQUEST, body, end=not event.partial))
        return wire_authz.encode(answer, _sent_and_hidden(exchange), event.request.head.target)
    finally:
        await exchange.finish()


def _routed(deciding: Deciding, event: RequestHeaders) -> Response | None:
    """Say which route a request takes; returns the answer where none may take it."""
    if deciding.match is None:
        return None
    found = deciding.match(event.request, event.route_key)
    if isinstance(found, Response):
        return found
    event.route_key = found.key if found is not None else ""
    return None


def _sent_and_hidden(exchange: Exchange) -> list[str]:
    """Return what a client sent and the upstream may not get; Envoy is another's and keeps it."""
    request, route = exchange.request, exchange.route
    if request is None or route is None:
        return []
    return [name for name in request.headers if route.hides(name)]


def access_log(deciding: Deciding, data: bytes) -> None:
    """Take one message of Envoy's access log stream: how requests ended, by route.

    Raises:
        PeerFault: the message is no StreamAccessLogsMessage.
    """
    for entry in wire_log.decode(data):
        outcome = f"{entry.status // 100}xx" if entry.status else "none"
        deciding.observer.count("extproc_access_log_entries_total", (entry.route, outcome))
