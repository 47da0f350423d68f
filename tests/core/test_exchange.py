"""Exchanges as conversations: what plugins do, what Envoy is told, what the client gets."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

from extproc.core.headers import Headers
from extproc.core.law import Side
from extproc.core.messages import Body, BodyAnswer, Continue, GiveUp, Immediate, ResponseHeaders
from extproc.core.plugin import Plugin
from extproc.core.values import Outcome, Request, Response
from extproc.core.waiting import Waiting, start
from extproc.testing import Trial
from tests.core.test_law import exchange, request_headers


class Marks(Plugin):
    """Writes its name into headers, both ways."""

    name: str

    def on_request(self, request: Request) -> None:
        """Mark the request."""
        request.headers.add("x-way-in", self.name)

    def on_response(self, request: Request, response: Response) -> None:
        """Mark the response."""
        response.headers.add("x-way-out", self.name)


class Answers(Plugin):
    """Answers in place of the upstream."""

    def on_request(self, request: Request) -> Response:
        """Answer."""
        return Response.json({"path": request.path})


async def test_requests_go_in_order_and_responses_in_reverse() -> None:
    """First to last on the way in, last to first on the way out."""
    trial = Trial(Marks(name="a"), Marks(name="b"))
    response = await trial.request()
    assert trial.seen["x-way-in"] == "a, b"
    assert response.headers["x-way-out"] == "b, a"


async def test_an_answer_made_here_passes_the_earlier_plugins() -> None:
    """A response returned on the way in is treated like any other by the plugins before."""
    trial = Trial(Marks(name="a"), Answers(), Marks(name="c"))
    response = await trial.request(target="/x?y=1")
    assert response.headers["x-way-out"] == "a"
    assert json.loads(response.body or b"") == {"path": "/x"}


async def test_a_problem_names_the_request() -> None:
    """The instance of a problem is the request id (RFC 9457)."""

    class Refuses(Plugin):
        def on_request(self, request: Request) -> Response:
            return Response.problem(403, "No way", "detail")

    problem = json.loads((await Trial(Refuses()).request()).body or b"")
    assert problem == {
        "type": "urn:extproc:no_way",
        "title": "No way",
        "status": 403,
        "detail": "detail",
        "instance": "request-1",
    }


async def test_bodies_can_be_replaced_both_ways() -> None:
    """Whole-body hooks may return new bytes."""

    class Upper(Plugin):
        def on_request_body(self, request: Request, body: bytes) -> bytes:
            return body.upper()

        def on_response_body(self, request: Request, response: Response, body: bytes) -> bytes:
            return body[::-1]

    trial = Trial(Upper())
    response = await trial.request(
        "POST", body=b"abc", upstream=lambda _headers, body: Response(200, {}, body)
    )
    assert response.body == b"CBA"


async def test_whole_body_hooks_see_requests_without_a_body() -> None:
    """A check of the body can't be avoided by sending none."""

    class NeedsBody(Plugin):
        def on_request_body(self, request: Request, body: bytes) -> Response | None:
            return None if body else Response.problem(400, "Body missing")

    assert (await Trial(NeedsBody()).request()).status == 400


async def test_state_belongs_to_one_plugin_and_one_exchange() -> None:
    """Two plugins of one class don't see each other's state."""

    class Remembers(Plugin):
        value: str

        def on_request(self, request: Request) -> None:
            assert not hasattr(request.state, "value")
            request.state.value = self.value

        def on_response(self, request: Request, response: Response) -> None:
            response.headers.add("x-state", request.state.value)

    trial = Trial(Remembers(value="1"), Remembers(value="2"))
    for _ in range(2):
        assert (await trial.request()).headers["x-state"] == "2, 1"


class Ends(Plugin):
    """Remembers how exchanges ended."""

    outcomes: ClassVar[list[Outcome]] = []

    def on_finish(self, request: Request, outcome: Outcome) -> None:
        """Remember."""
        self.outcomes.append(outcome)


async def test_on_finish_runs_after_failures() -> None:
    """Also when a plugin before or after it failed."""

    class Raises(Plugin):
        def on_request(self, request: Request) -> None:
            raise RuntimeError

    Ends.outcomes.clear()
    await Trial(Ends(), Raises()).request()
    await Trial(Raises(), Ends()).request()
    await Trial(Ends()).request()
    assert [(o.decision, o.by, o.reason) for o in Ends.outcomes] == [
        ("error", "Raises", "plugin_failed"),
        ("error", "Raises", "plugin_failed"),
        ("allow", "", ""),
    ]


async def test_on_finish_runs_after_a_disconnect() -> None:
    """An exchange that breaks off in the middle is finished as well."""
    Ends.outcomes.clear()
    subject = exchange(Ends())
    await subject.receive(request_headers(end=False))
    await subject.finish()
    assert len(Ends.outcomes) == 1


async def test_a_status_is_known_once_it_is_given() -> None:
    """Not while the body is waited for: what the client gets without it Envoy alone knows."""

    class Sees(Plugin):
        def on_response_body(self, request: Request, response: Response, body: bytes) -> None:
            response.headers["x-length"] = str(len(body))

    Ends.outcomes.clear()
    for whole in (False, True):
        subject = exchange(Ends(), Sees())
        await subject.receive(request_headers(end=True))
        await subject.receive(ResponseHeaders(201, Headers(), end=False))
        if whole:
            await subject.receive(Body(Side.RESPONSE, b"abc", end=True))
        await subject.finish()
    assert [outcome.status for outcome in Ends.outcomes] == [None, 201]


def test_an_exchange_that_doesnt_wait_needs_no_task() -> None:
    """Without an event loop, the answer is there when the coroutine is first run."""
    answer = start(exchange(Marks(name="a")).receive(request_headers(end=True)))
    assert isinstance(answer, Continue)
    assert answer.verdict == "r@v"


async def test_an_exchange_that_waits_goes_on_in_a_task() -> None:
    """What has begun without a task is continued by one."""

    class Waits(Plugin):
        async def on_request(self, request: Request) -> None:
            await asyncio.sleep(0)
            request.headers["x-waited"] = "1"

    waiting = start(exchange(Waits()).receive(request_headers(end=True)))
    assert isinstance(waiting, Waiting)
    answer = await asyncio.ensure_future(waiting)
    assert answer.changes.set == (("x-waited", ("1",)),)


async def test_the_verdict_comes_with_the_body_where_bodies_are_judged() -> None:
    """Until every plugin has seen the body, nothing may pass."""

    class Judges(Plugin):
        def on_request_body(self, request: Request, body: bytes) -> None:
            request.headers["x-length"] = str(len(body))

    subject = exchange(Judges())
    first = await subject.receive(request_headers(end=False))
    assert isinstance(first, Continue)
    assert first.verdict is None
    second = await subject.receive(Body(Side.REQUEST, b"abc", end=True))
    assert isinstance(second, BodyAnswer)
    assert second.verdict == "r@v"
    assert second.changes is not None


async def test_an_unknown_route_is_refused() -> None:
    """A route this service hasn't loaded gets a 503, never a verdict."""
    subject = exchange()
    subject._find = lambda _key: None
    answer = await subject.receive(request_headers(end=True))
    assert isinstance(answer, Immediate)
    assert answer.response.status == 503


async def test_a_capture_can_be_given_up() -> None:
    """When no plugin needs more of a streamed body, the stream is closed cleanly."""

    class LetsGo(Plugin):
        streaming: ClassVar[bool] = True

        def on_response_body(self, request: Request, response: Response, body: bytes) -> None:
            response.released.add(request.slot)

    subject = exchange(LetsGo())
    await subject.receive(request_headers(end=True))
    await subject.receive(ResponseHeaders(200, Headers(), end=False))
    assert isinstance(await subject.receive(Body(Side.RESPONSE, b"1", end=False)), BodyAnswer)
    assert isinstance(await subject.receive(Body(Side.RESPONSE, b"2", end=False)), GiveUp)


async def test_a_plugin_that_breaks_its_contract_fails() -> None:
    """What no hook may return is a failure of the plugin, with its name in the log."""

    class Wrong(Plugin):
        def on_request(self, request: Request) -> Response | None:
            return "text"  # type: ignore[return-value]

    trial = Trial(Wrong())
    assert (await trial.request()).status == 500
    assert trial.log.events[0][2]["plugin"] == "Wrong"
    assert trial.log.events[0][2]["error"] == "request returned str, not None or a Response"


async def test_malformed_parameters_are_the_clients_fault() -> None:
    """A query that isn't UTF-8 is a 400, not a failure of the plugin that read it."""

    class Reads(Plugin):
        def on_request(self, request: Request) -> None:
            assert request.queries

    assert (await Trial(Reads()).request(target="/?a=%ff")).status == 400
    assert (await Trial(Reads(), path="/{id}").request(target="/%ff")).status == 400
