"""What asks Redis can be told to stop at any moment: a worker ends, a client goes away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.redis_replicas import RedisReplicas
from extproc.adapters.redis_revocations import RedisRevocations
from extproc.adapters.redis_store import RedisStore
from extproc.testing import Events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_server import RedisServer


async def revocations(url: str) -> None:
    """Look for revocations, again and again."""
    shared = RedisRevocations(url, Events())
    try:
        while True:
            await shared.fresh(time.time())
    finally:
        await shared.close()


async def marks(url: str) -> None:
    """Look for marks, again and again."""
    replicas = RedisReplicas(url, Events())
    try:
        while True:
            await replicas.catch_up()
    finally:
        await replicas.close()


async def values(url: str) -> None:
    """Store and read values, again and again."""
    store = RedisStore(url)
    try:
        while True:
            await store.set("cancelled", b"1", 60.0)
            await store.get("cancelled")
    finally:
        await store.close()


@pytest.mark.parametrize("asking", [revocations, marks, values])
async def test_asking_ends_when_it_is_cancelled(
    asking: Callable[[str], asyncio.Future[None]], redis: RedisServer
) -> None:
    """After any number of turns of the loop, while connecting, sending and reading."""
    for turns in range(120):
        task = asyncio.ensure_future(asking(redis.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        task.cancel()
        assert done, f"it went on, cancelled after {turns} turns"
        assert task.cancelled()
