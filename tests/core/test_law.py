"""The law of an exchange: every sequence of messages, every reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.chain import Chain
from extproc.core.errors import PeerFault
from extproc.core.exchange import Exchange
from extproc.core.guard import Guard, Limits
from extproc.core.headers import Headers
from extproc.core.law import LAW, Law, Message, Reply, ReplyNotAllowed, Side, State
from extproc.core.messages import Body, Event, GiveUp, RequestHeaders, ResponseHeaders, Trailers
from extproc.core.plugin import Plugin
from extproc.core.routes import PathPattern, Route
from extproc.core.values import Request
from extproc.testing import Counts, DirectRuntime, Events

if TYPE_CHECKING:
    from extproc.core.values import Response


class Everything(Plugin):
    """Sees every phase."""

    def on_request(self, request: Request) -> None:
        """Look."""

    def on_request_body(self, request: Request, body: bytes) -> None:
        """Look."""

    def on_response(self, request: Request, response: Response) -> None:
        """Look."""

    def on_response_body(self, request: Request, response: Response, body: bytes) -> None:
        """Look."""


def exchange(*plugins: Plugin) -> Exchange:
    """Return an exchange on a route with these plugins."""
    guards = [Guard(p, "p", Limits(), DirectRuntime(), Counts(), Events()) for p in plugins]
    route = Route("r", "v", PathPattern.parse("/*"), Chain(guards), 1.0)
    return Exchange(lambda _key: route, DirectRuntime().monotonic, Counts())


def request_headers(*, end: bool) -> RequestHeaders:
    """Return a message."""
    return RequestHeaders(Request(host="h", target="/x", request_id="id"), "r@v", end)


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.booleans().map(lambda end: request_headers(end=end)),
    st.booleans().map(lambda end: ResponseHeaders(200, Headers(), end)),
    st.builds(Body, st.sampled_from(Side), st.binary(max_size=4), st.booleans()),
    st.builds(Trailers, st.sampled_from(Side)),
)


@given(events=st.lists(EVENTS, max_size=8), whole=st.booleans())
def test_any_sequence_gives_an_answer_or_the_declared_error(
    events: list[Event], *, whole: bool
) -> None:
    """Never silence, never another exception, never a clean close before the verdict."""

    async def run() -> None:
        subject = exchange(*([Everything()] if whole else []))
        verdict = False
        for event in events:
            try:
                answer = await subject.receive(event)
            except PeerFault:
                return
            verdict = verdict or getattr(answer, "verdict", None) is not None
            if isinstance(answer, GiveUp):
                assert event_side(event) is Side.RESPONSE
                return
            assert answer is not None
        await subject.finish()

    asyncio.run(run())


def event_side(event: Event) -> Side:
    """Return whose message it is."""
    if isinstance(event, RequestHeaders):
        return Side.REQUEST
    return Side.RESPONSE if isinstance(event, ResponseHeaders) else event.side


def test_the_table_never_closes_cleanly_on_the_request_side() -> None:
    """Before the verdict a clean close would let the request through (F2)."""
    for (side, _, _), (_, replies) in LAW.items():
        assert (Reply.GIVE_UP in replies) == (side is Side.RESPONSE)


def test_every_state_but_the_last_expects_something() -> None:
    """A side that hasn't ended can go on."""
    for side in Side:
        for state in (State.IDLE, State.OPEN):
            assert any(key[:2] == (side, state) for key in LAW)
        assert not any(key[:2] == (side, State.ENDED) for key in LAW)


def test_a_response_can_come_first() -> None:
    """A reply of Envoy's own reaches a stream that never saw a request."""
    law = Law()
    law.came(Side.RESPONSE, Message.HEADERS)
    law.answered(Reply.CONTINUE)


def test_a_reply_of_the_wrong_kind_is_our_own_defect() -> None:
    """The law also binds this service."""
    law = Law()
    law.came(Side.REQUEST, Message.HEADERS)
    with pytest.raises(ReplyNotAllowed):
        law.answered(Reply.BODY)


def test_nothing_comes_after_the_answer() -> None:
    """After an immediate response Envoy sends nothing more on this stream."""
    law = Law()
    law.came(Side.REQUEST, Message.HEADERS_END)
    law.answered(Reply.IMMEDIATE)
    with pytest.raises(PeerFault, match="after the exchange was answered"):
        law.came(Side.RESPONSE, Message.HEADERS)
