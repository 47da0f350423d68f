"""Storage of bytes in Redis, for plugins.

A value is stored with a digest of it and its key, and read back under no other: an answer that is
another command's is a miss.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from extproc.adapters.redis_trouble import in_step, is_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PREFIX = "extproc:2:s:"
_DIGEST = 16
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
        found = await self._guarded(self._redis.get(_PREFIX + key), partial(_is_of, key))
        return found[_DIGEST:] if isinstance(found, bytes) else None

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most."""
        if ttl > 0:
            sealed = _digest(key, value) + value
            set_ = self._redis.set(_PREFIX + key, sealed, px=int(ttl * 1000) + 1)
            await self._guarded(set_, lambda answer: answer is True)

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await self._guarded(self._redis.delete(_PREFIX + key), is_number)

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def _guarded(self, command: Awaitable[Any], fits: Callable[[Any], bool]) -> Any:
        try:
            async with asyncio.timeout(_WITHIN):
                return await in_step(self._redis, command, fits)
        except (RedisError, OSError, TimeoutError):
            return None


def _digest(key: str, value: bytes) -> bytes:
    made = hashlib.blake2b(value, digest_size=_DIGEST)
    made.update(b"\0" + key.encode())
    return made.digest()


def _is_of(key: str, found: object) -> bool:
    """Say whether something is what is stored under a key, or nothing is."""
    if found is None:
        return True
    if not isinstance(found, bytes):
        return False
    return found[:_DIGEST] == _digest(key, found[_DIGEST:])
