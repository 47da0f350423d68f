"""Services for a plugin whose hooks may have to run in threads (`runtime.py`, `offload`).

What waits belongs to the worker's event loop, and a hook in a thread has a loop of its own. So
what it asks for is begun and awaited on the worker's, and only the outcome comes to the thread.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from extproc.adapters.within import outcome

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable

    from extproc.core.ports import Services


def reachable(services: Services, loop: AbstractEventLoop) -> Services:
    """Return services that can be used from every thread.

    Args:
        services: of a worker.
        loop: the worker's.
    """
    return replace(
        services,
        call=_Method(services.call, loop),
        cached=_Method(services.cached, loop),
        spawn=_Method(services.spawn, loop),
        store=_Methods(services.store, loop),
        fetch=_Methods(services.fetch, loop),
    )


class _Method:
    """Calls a function on the worker's loop, whichever thread asks."""

    __slots__ = ("_function", "_loop")

    def __init__(self, function: Callable[..., Any], loop: AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - the other form raises
            return self._function(*arguments, **keywords)
        begun = asyncio.run_coroutine_threadsafe(self._begin(arguments, keywords), self._loop)
        (result,) = begun.result()
        return self._awaited(result) if isawaitable(result) else result

    async def _begin(self, arguments: Any, keywords: Any) -> tuple[Any]:
        # In a tuple, so that what has to be awaited isn't taken for what this returns.
        return (self._function(*arguments, **keywords),)

    async def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        waits = asyncio.run_coroutine_threadsafe(outcome(awaitable), self._loop)
        return await asyncio.wrap_future(waits)


class _Methods:
    """An object all of whose methods are such."""

    def __init__(self, of: object, loop: AbstractEventLoop) -> None:
        self._of = of
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return _Method(getattr(self._of, name), self._loop)
