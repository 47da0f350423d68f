"""Revocations that replicas share: a stream in Redis, of which each supervisor reads what is new.

What a supervisor has read it keeps in its own file, so an outage of Redis forgets nothing: nobody
is told of what is new until it answers again. A stream that was flushed is written again by
whoever notices.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from extproc.adapters.redis_trouble import in_step, trouble
from extproc.adapters.revocation_file import parsed, written
from extproc.core.errors import ExtprocError
from extproc.core.revocation import BadRevocation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from typing import Any

    from extproc.core.ports import Log
    from extproc.core.revocation import Revocation

_STREAM = "extproc:1:revocations"
_FIELD = b"r"
_NOTHING = b"0-0"
_WITHIN = 0.5
_AT_ONCE = 1000


class NotShared(ExtprocError):
    """Redis doesn't answer, or refuses."""


class RedisRevocations:
    """One supervisor's view of the stream."""

    def __init__(self, url: str, log: Log) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=None,  # each call has a limit here; the library's loses cancellations
            socket_connect_timeout=_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        self._log = log
        self._last = _NOTHING

    async def add(self, revocations: Iterable[Revocation]) -> None:
        """Tell the others.

        Raises:
            NotShared: it doesn't answer, or refuses.
        """
        for revocation in revocations:
            await self._answer(self._redis.xadd(_STREAM, {_FIELD: written(revocation)}), bytes)

    async def fresh(self, now: float) -> tuple[Sequence[Revocation], bool]:
        """Return what came since the last call, and whether the stream was flushed before it.

        What has become void is taken out of the stream.

        Args:
            now: seconds since the epoch.

        Raises:
            NotShared: it doesn't answer, or refuses.
        """
        flushed = _number(await self._newest()) < _number(self._last)
        if flushed:
            self._last = _NOTHING
        found: list[Revocation] = []
        while True:
            entries = await self._answer(
                self._redis.xrange(_STREAM, min=b"(" + self._last, count=_AT_ONCE), list
            )
            read = {one: self._read(fields.get(_FIELD, b"")) for one, fields in entries}
            void = [one for one, made in read.items() if made is not None and made.until <= now]
            if void:
                await self._answer(self._redis.xdel(_STREAM, *void), int)
            found += [made for made in read.values() if made is not None and made.until > now]
            self._last = next(reversed(read), self._last)
            if len(entries) < _AT_ONCE:
                return found, flushed

    async def _newest(self) -> bytes:
        """Return the newest entry there ever was, also if it was taken out since."""
        if not await self._answer(self._redis.exists(_STREAM), int):
            return _NOTHING
        about = await self._answer(self._redis.xinfo_stream(_STREAM), dict)
        return bytes(about["last-generated-id"])

    def _read(self, line: bytes) -> Revocation | None:
        try:
            return parsed(line, "redis")
        except BadRevocation as error:
            self._log.error("a shared revocation can't be read", error=str(error))
            return None

    async def _answer(self, command: Awaitable[Any], kind: type) -> Any:
        """Return what a command says, which is of this kind."""
        try:
            async with asyncio.timeout(_WITHIN):
                return await in_step(self._redis, command, lambda said: isinstance(said, kind))
        except (RedisError, OSError, TimeoutError) as error:
            raise NotShared(trouble(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _number(identifier: bytes) -> tuple[int, int]:
    """Return a stream entry's identifier as what it is ordered by."""
    milliseconds, _, sequence = identifier.partition(b"-")
    return int(milliseconds), int(sequence)
