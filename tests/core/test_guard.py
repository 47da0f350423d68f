"""The guard: deadlines, bounds, breaker, failure policy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.runtime import LoopRuntime
from extproc.core.breaker import LONGEST_PAUSE, Breaker
from extproc.core.guard import Guard, Limits, OnFailure
from extproc.core.plugin import Plugin
from extproc.core.values import Request, Response
from extproc.testing import Counts, DirectRuntime, Events, ManualClock, Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Hangs(Plugin):
    """Waits for ever."""

    async def on_request(self, request: Request) -> None:
        """Wait."""
        await asyncio.Event().wait()


class Raises(Plugin):
    """Always fails."""

    def on_request(self, request: Request) -> None:
        """Fail."""
        raise RuntimeError("secret detail")


@pytest.mark.parametrize(
    ("plugin", "status", "reason"),
    [(Hangs, 504, "plugin_deadline"), (Raises, 500, "plugin_failed")],
)
async def test_a_failure_denies(plugin: type[Plugin], status: int, reason: str) -> None:
    """By default a failure is an answer, and it says nothing of what happened inside."""
    response = await Trial(plugin(), limits=Limits(0.01)).request()
    assert (response.status, response.reason) == (status, reason)
    assert b"secret" not in (response.body or b"")


class Ends(Plugin):
    """Raises what would end a process or a task, before or after it waited."""

    error: type[BaseException]
    late: bool

    def on_request(self, request: Request) -> Awaitable[None] | None:
        """Fail."""
        if not self.late:
            raise self.error
        return self._later()

    async def _later(self) -> None:
        await asyncio.sleep(0)
        raise self.error


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("offloaded", [False, True])
async def test_nothing_that_a_hook_raises_goes_further(
    error: type[BaseException], *, late: bool, offloaded: bool
) -> None:
    """It would end the worker, or the connection with everybody's exchanges."""
    runtime = LoopRuntime()
    guard = Guard(
        Ends(error=error, late=late),
        "ends",
        Limits(threads=True),
        runtime,
        Counts(),
        Events(),
        offloaded=offloaded,
    )
    answer = guard.call("request", guard.plugin.on_request, Request())
    if not isinstance(answer, Response):
        answer = await answer  # type: ignore[misc]
    runtime.close()
    assert isinstance(answer, Response)
    assert (answer.status, answer.reason) == (500, "plugin_failed")


@pytest.mark.parametrize(("status", "body"), [(42, b""), ("200", b""), (200, "text"), (200, 5)])
async def test_a_response_that_can_not_be_sent_is_a_failure(status: Any, body: Any) -> None:
    """Whoever made it is to know; the client of a refusal mustn't take it for leave."""

    class Wrong(Plugin):
        def on_request(self, request: Request) -> Response:
            response = Response()
            response.status, response.body = status, body
            return response

    response = await Trial(Wrong()).request()
    assert (response.status, response.reason) == (500, "plugin_failed")


@pytest.mark.parametrize("plugin", [Hangs, Raises])
async def test_a_failure_can_be_skipped(plugin: type[Plugin]) -> None:
    """With `on_failure: skip` the exchange goes on."""
    limits = Limits(0.01, on_failure=OnFailure.SKIP)
    assert (await Trial(plugin(), limits=limits).request()).status == 200


async def test_the_breaker_opens_after_five_hangs_and_closes_after_a_trial() -> None:
    """Then calls are refused at once with Retry-After, until one trial ends in time."""
    slow = True

    class Sometimes(Plugin):
        async def on_request(self, request: Request) -> None:
            await (asyncio.Event().wait() if slow else asyncio.sleep(0))

    trial = Trial(Sometimes(), limits=Limits(0.01))
    assert [(await trial.request()).status for _ in range(5)] == [504] * 5
    refused = await trial.request()
    assert (refused.status, refused.reason) == (503, "plugin_unavailable")
    assert refused.headers["retry-after"] == "1"
    trial.clock.move(1.0)
    slow = False
    assert (await trial.request()).status == 200
    assert (await trial.request()).status == 200


async def test_raising_never_opens_the_breaker() -> None:
    """Refusing is as dear as raising, and a 500 says more."""
    trial = Trial(Raises())
    assert {(await trial.request()).status for _ in range(20)} == {500}


async def test_more_than_the_bound_are_refused() -> None:
    """A plugin that waits holds at most `bound` exchanges at once."""
    trial = Trial(Hangs(), limits=Limits(0.2, bound=3))
    answers = await asyncio.gather(*(trial.request() for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [503, 503, 504, 504, 504]
    busy = [answer for answer in answers if answer.status == 503]
    assert {answer.reason for answer in busy} == {"plugin_busy"}


async def test_a_hook_in_a_thread_answers_the_same() -> None:
    """A plugin that once blocked runs in threads; `def` and `async def` alike."""

    class Fine(Plugin):
        async def on_request(self, request: Request) -> Response:
            await asyncio.sleep(0)
            return Response(204)

    limits = Limits(threads=True)
    guard = Guard(Fine(), "fine", limits, DirectRuntime(), Counts(), Events(), offloaded=True)
    answer = guard.call("request", guard.plugin.on_request, Request())
    assert not isinstance(answer, Response)
    result = await answer  # type: ignore[misc]
    assert isinstance(result, Response)
    assert result.status == 204


def test_this_services_own_plugins_stay_on_the_loop() -> None:
    """Also where the machine stood still and the supervisor took one of them for stuck."""

    class Fine(Plugin):
        def on_request(self, request: Request) -> Response:
            return Response(204)

    guard = Guard(Fine(), "fine", Limits(), DirectRuntime(), Counts(), Events(), offloaded=True)
    answer = guard.call("request", guard.plugin.on_request, Request())
    assert isinstance(answer, Response)


@given(steps=st.lists(st.sampled_from(["admit", "fail", "block", "succeed", "wait"]), max_size=60))
def test_the_breaker_never_locks_for_good(steps: list[str]) -> None:
    """Whatever happened, after the longest pause a trial is admitted, and it can close."""
    breaker, clock = Breaker(), ManualClock(0.0)
    actions: dict[str, Callable[[], object]] = {
        "admit": lambda: breaker.admit(clock.now()),
        "fail": lambda: breaker.failed(clock.now()),
        "block": lambda: breaker.failed(clock.now(), at_once=True),
        "succeed": breaker.succeeded,
        "wait": lambda: clock.move(0.7),
    }
    for step in steps:
        actions[step]()
    breaker.abandoned()
    clock.move(LONGEST_PAUSE)
    assert breaker.admit(clock.now())
    breaker.succeeded()
    assert breaker.until is None
