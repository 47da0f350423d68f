"""Running a coroutine without a task for as long as it doesn't wait."""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator


def start(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine until it ends or first waits.

    An exchange whose hooks all return at once is done here, without a task.

    Returns:
        Its result, or a `Waiting` that a task must await.

    Raises:
        Whatever the coroutine raises before it first waits.
    """
    try:
        first = coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    return Waiting(coroutine, first)


def discard(awaitable: Awaitable[Any]) -> None:
    """End a coroutine that nobody will await; other awaitables need no end."""
    if iscoroutine(awaitable):
        awaitable.close()


class Waiting:
    """The rest of a coroutine that has begun to wait."""

    __slots__ = ("_awaited", "_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first
        self._awaited = False

    def close(self) -> None:
        """End the coroutine if nobody has begun to await it: a task may be cancelled before."""
        if not self._awaited:
            self._awaited = True
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Go on where the coroutine waits."""
        self._awaited = True
        coroutine, waited = self._coroutine, self._first
        while True:
            thrown: BaseException | None = None
            value = None
            try:
                value = yield waited
            except BaseException as error:  # noqa: BLE001 - cancellation belongs to the coroutine
                thrown = error
            try:
                waited = coroutine.throw(thrown) if thrown else coroutine.send(value)
            except StopIteration as stop:
                return stop.value
