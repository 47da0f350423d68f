"""One plugin inside its guard: deadline, concurrency bound, breaker, failure policy.

Whatever a plugin does, its own exchange gets an answer and no other exchange waits for it:

* a hook that raises, also what would end a process or cancels a task: 500 (or the hook is skipped,
  by `on_failure`);
* a hook that waits past its deadline: 504, the hook is cancelled and left behind;
* a hook that blocks the event loop past its deadline: interrupted by the runtime, 504; from
  then on this plugin's hooks run in threads;
* more than `bound` hooks waiting, or an open breaker: 503 with Retry-After.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from extproc.core.breaker import Breaker
from extproc.core.errors import DeadlinePassed, HookInterrupted, PluginFault, tamed, where
from extproc.core.values import MalformedRequest, Response
from extproc.core.waiting import discard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from extproc.core.plugin import Plugin
    from extproc.core.ports import Log, Observer, Runtime

DEFAULT_DEADLINE = 0.5
DEFAULT_BOUND = 256

PHASES = ("request", "request_body", "response", "response_body", "finish")

Answer = Response | bytes | None


class OnFailure(StrEnum):
    """What a plugin's failure means for its exchange."""

    DENY = "deny"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a plugin may go.

    Attributes:
        deadline: seconds that one hook may take.
        bound: how many of its hooks may be waiting at once, in one worker.
        on_failure: what a failure means.
        threads: where it once blocked the event loop its hooks run in threads. Those of this
            service's own plugins don't: they share what belongs to the loop, and what holds them
            up is a machine that stood still.
    """

    deadline: float = DEFAULT_DEADLINE
    bound: int = DEFAULT_BOUND
    on_failure: OnFailure = OnFailure.DENY
    threads: bool = False


class Guard:
    """Calls a plugin's hooks and turns every way they can fail into an answer."""

    def __init__(
        self,
        plugin: Plugin,
        name: str,
        limits: Limits,
        runtime: Runtime,
        observer: Observer,
        log: Log,
        *,
        offloaded: bool = False,
    ) -> None:
        self.plugin = plugin
        self.name = name
        self.limits = limits
        self.breaker = Breaker()
        self.offloaded = offloaded and limits.threads
        self.waiting = 0
        self._runtime = runtime
        self._observer = observer
        self._log = log
        self._deadline = limits.deadline
        self._timers = {
            phase: observer.timer("extproc_plugin_seconds", (name, phase)) for phase in PHASES
        }

    def call(
        self, phase: str, hook: Callable[..., Any], *arguments: Any
    ) -> Answer | Awaitable[Answer]:
        """Run one hook.

        Returns:
            What the hook returned, or the answer that its failure means; an awaitable of that
            where the hook waits.
        """
        runtime = self._runtime
        breaker = self.breaker
        if breaker.until is not None and not breaker.admit(runtime.monotonic()):
            return self._refused(phase, "plugin_unavailable")
        if self.offloaded:
            return self._in_thread(phase, hook, arguments)
        try:
            started = runtime.arm(self.name, self._deadline)
            try:
                result = hook(*arguments)
            finally:
                ended = runtime.disarm()
        except HookInterrupted:
            return self._blocked(phase)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            return self._raised(phase, error)
        plain = result is None or type(result) is Response
        if not plain and inspect.isawaitable(result):
            return self._waits(phase, result)
        if breaker.trial:
            breaker.succeeded()
        self._timers[phase](ended - started)
        return None if result is None else self._checked(phase, result)

    def _in_thread(
        self, phase: str, hook: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Answer | Awaitable[Answer]:
        """Run a hook of a plugin that blocked before where it blocks nobody else."""

        def function() -> Any:
            return hook(*arguments)

        return self._settled(
            phase, self._runtime.offload(function, self.name, self.limits.deadline)
        )

    def _checked(self, phase: str, result: Any) -> Answer:
        """Let through only what a hook may return."""
        if result is None:
            return None
        if isinstance(result, Response):
            wrong = result.wrong()
            return self._raised(phase, PluginFault(wrong)) if wrong else result
        if isinstance(result, bytes) and phase.endswith("body"):
            return result
        return self._raised(phase, _wrong(phase, result))

    def _waits(self, phase: str, awaitable: Awaitable[Any]) -> Answer | Awaitable[Answer]:
        if self.waiting >= self.limits.bound:
            discard(awaitable)
            self.breaker.abandoned()
            return self._refused(phase, "plugin_busy")
        counted = _Counted(self, awaitable)
        waited = self._runtime.wait(counted.run(), self.name, self.limits.deadline)
        return self._settled(phase, waited, counted)

    async def _settled(
        self, phase: str, outcome: Awaitable[Any], counted: _Counted | None = None
    ) -> Answer:
        started = self._runtime.monotonic()
        settled = False
        try:
            result = await outcome
            settled = True
        except HookInterrupted:
            settled = True
            return self._blocked(phase)
        except DeadlinePassed:
            settled = True
            return self._late(phase)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            settled = True
            self.breaker.succeeded()
            return self._raised(phase, error)
        finally:
            if not settled:
                self.breaker.abandoned()
            if counted is not None:
                counted.give_up()
        self.breaker.succeeded()
        self._timers[phase](self._runtime.monotonic() - started)
        return self._checked(phase, result)

    def _raised(self, phase: str, error: BaseException) -> Answer:
        self.breaker.abandoned()
        if isinstance(error, MalformedRequest):
            return Response.malformed(str(error))
        self._log.error(
            "plugin failed",
            plugin=self.name,
            phase=phase,
            # The text of another's error may hold what a client sent.
            error=str(error) if isinstance(error, PluginFault) else type(error).__name__,
            where=where(error),
        )
        return self._failed(phase, 500, "Plugin failed", "plugin_failed")

    def _late(self, phase: str) -> Answer:
        self.breaker.failed(self._runtime.monotonic())
        self._log.warning("plugin passed its deadline", plugin=self.name, phase=phase)
        return self._failed(phase, 504, "Deadline passed", "plugin_deadline")

    def _blocked(self, phase: str) -> Answer:
        if not self.offloaded:
            threads = " and runs in threads from now on" if self.limits.threads else ""
            self._log.warning(
                f"plugin blocked the event loop{threads}", plugin=self.name, phase=phase
            )
        self.offloaded = self.limits.threads
        self.breaker.failed(self._runtime.monotonic(), at_once=True)
        return self._failed(phase, 504, "Deadline passed", "plugin_deadline")

    def _refused(self, phase: str, reason: str) -> Answer:
        answer = self._failed(phase, 503, "Temporarily unavailable", reason)
        if isinstance(answer, Response):
            now = self._runtime.monotonic()
            answer.headers["retry-after"] = str(self.breaker.retry_after(now))
        return answer

    def _failed(self, phase: str, status: int, title: str, reason: str) -> Answer:
        self._observer.count("extproc_plugin_failures_total", (self.name, phase, reason))
        if self.limits.on_failure is OnFailure.SKIP:
            return None
        return Response.problem(status, title, reason=reason)


class _Counted:
    """A hook that counts as waiting from now until it really ends, also when left behind."""

    __slots__ = ("_awaitable", "_guard", "_runs")

    def __init__(self, guard: Guard, awaitable: Awaitable[Any]) -> None:
        self._guard = guard
        self._awaitable = awaitable
        self._runs = False
        guard.waiting += 1

    async def run(self) -> Any:
        """Await the hook."""
        self._runs = True
        try:
            return await self._awaitable
        except (SystemExit, KeyboardInterrupt) as error:
            raise tamed(error) from None
        finally:
            self._guard.waiting -= 1

    def give_up(self) -> None:
        """Take note that nobody waits any more; a hook that never began doesn't count on."""
        if not self._runs:
            self._runs = True
            self._guard.waiting -= 1
            discard(self._awaitable)  # the task that would have begun it is cancelled


def _wrong(phase: str, result: object) -> PluginFault:
    wanted = "None, a Response or bytes" if phase.endswith("body") else "None or a Response"
    return PluginFault(f"{phase} returned {type(result).__name__}, not {wanted}")
