"""Storage of bytes in Redis, for plugins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Awaitable

_PREFIX = "extproc:1:s:"
_WITHIN = 0.1
_CONNECTIONS = 16


class RedisStore:
    """See `Store`; what fails is a miss, never an error."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_WITHIN,
            socket_timeout=None,  # each call has a limit here; the library's loses cancellations
            socket_connect_timeout=_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if it is absent, expired, or can't be had."""
        found = await _guarded(self._redis.get(_PREFIX + key))
        return found if isinstance(found, bytes) else None

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most."""
        if ttl > 0:
            await _guarded(self._redis.set(_PREFIX + key, value, px=int(ttl * 1000) + 1))

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await _guarded(self._redis.delete(_PREFIX + key))

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


async def _guarded(command: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(_WITHIN):
            return await command
    except (RedisError, OSError, TimeoutError):
        return None
