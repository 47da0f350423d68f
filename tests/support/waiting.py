"""Waiting for a condition, with an end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_PAUSE = threading.Event()


def until(condition: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """Return the first true value of a condition, asked again and again.

    Raises:
        AssertionError: it didn't become true in time.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except OSError:
            value = None
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds} s: {what}")
        _PAUSE.wait(0.01)


async def until_async(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition while the event loop goes on.

    Raises:
        AssertionError: it didn't become true in time.
    """
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.005)
