"""What asks Redis: it can be told to stop at any moment, and says why it gets nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.redis_replicas import RedisReplicas
from extproc.adapters.redis_revocations import NotShared, RedisRevocations
from extproc.adapters.redis_store import RedisStore
from extproc.testing import Events
from tests.support.redis_server import redis_server
from tests.support.waiting import until_async

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


async def test_what_is_said_of_a_redis_that_refuses() -> None:
    """A wrong password, no memory for what is stored, nobody there: which it is."""
    with redis_server() as redis:
        client = redis.client()
        client.config_set("requirepass", "right")
        wrong = f"redis://:wrong@127.0.0.1:{redis.port}/0"
        log = Events()
        replicas = RedisReplicas(wrong, log)
        replicas.start()
        await until_async(lambda: bool(log.events))
        await replicas.close()
        [(_, event, fields)] = [one for one in log.events if "not used" in one[1]]
        assert str(fields["why"]).startswith("Redis refuses: ")
        assert "wrong" not in str(fields["why"])
        shared = RedisRevocations(wrong, Events())
        with pytest.raises(NotShared, match="Redis refuses: "):
            await shared.fresh(time.time())
        await shared.close()

        client.config_set("maxmemory", "1")
        log = Events()
        replicas = RedisReplicas(wrong.replace("wrong", "right"), log)
        await replicas.catch_up()
        for name in ("a", "b"):
            replicas.keep(name, [], b"x", 60.0)
        await replicas.written()
        await replicas.close()
        [(_, event, fields)] = log.events
        assert event == "redis refuses a command"
        assert "OOM" in str(fields["why"])
    with pytest.raises(NotShared, match="Redis doesn't answer: ConnectionError"):
        await RedisRevocations(redis.url, Events()).fresh(time.time())
