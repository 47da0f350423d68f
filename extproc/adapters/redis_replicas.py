"""Stored responses in Redis, shared by workers and replicas.

Redis is never waited for longer than milliseconds, and whatever fails is a miss. What other
replicas mark is asked for four times a second; when that fails for a second, nothing that is
stored is given until it is known again: hits are lost then, and nobody gets what was purged.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from extproc.adapters import beside
from extproc.adapters import redis_scripts as scripts
from extproc.adapters.redis_trouble import in_step, is_number, refuses, trouble
from extproc.core.replicas import Looked, SharedMark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from extproc.core.ports import Log, Observer

_PREFIX = "extproc:1:"
_WITHIN = 0.05  # seconds that Redis has for one answer
_POLL_WITHIN = 0.2
_POLL_EVERY = 0.25
_TRUSTED_FOR = 1.0
_CONNECTIONS = 32
_AGAIN_AFTER = 0.05
_LEASE = 1000  # milliseconds; renewed while the one who has it lives
_RENEW_EVERY = 0.3
_PASS_FOR = 10_000  # milliseconds
_PASS = "pass"  # noqa: S105 - no password
_LARGEST = 8 << 20
_MOST_VARIANTS = 32
_MOST_MARKS = 10_000
_MOST_WAITING = 1000  # writes that wait for Redis; more are let go
_LONGEST = 86_400.0
_COMPLAIN_EVERY = 60.0


class RedisReplicas:
    """See `Replicas`.

    Args:
        url: of Redis.
        log: for events.
        observer: counts what came of asking.
    """

    def __init__(self, url: str, log: Log, observer: Observer | None = None) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_WITHIN,
            socket_timeout=None,  # each call has a limit here; the library's loses cancellations
            socket_connect_timeout=_POLL_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._log = log
        self._observer = observer
        self._scripts = {
            name: self._redis.register_script(getattr(scripts, name))
            for name in ("LOOK", "LEASE", "RENEW", "RELEASE", "KEEP", "MARK", "POLL")
        }
        self._owner = secrets.token_hex(8)
        self._leases: set[str] = set()
        self._writes: asyncio.Queue[Callable[[], Awaitable[Any]]] = asyncio.Queue(_MOST_WAITING)
        self._unsaid: list[SharedMark] = []
        self._made = self._said = 0  # how many marks were made here, and how many of them said
        self._saying = asyncio.Lock()
        self._own: set[int] = set()
        self._generation = ""
        self._sequence = 0
        self._heard: Callable[[Sequence[SharedMark], int], None] | None = None
        self._lost: Callable[[Sequence[SharedMark]], None] | None = None
        self._polled = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._well = True
        self._why = ""
        self._complained = float("-inf")

    def start(self) -> None:
        """Begin to follow the others."""
        loops = (self._polls, self._renews, self._writes_down)
        self._tasks = [beside.begin(loop, self._log) for loop in loops]

    async def close(self) -> None:
        """Stop following and close every connection."""
        await beside.end(*self._tasks)
        await self._redis.aclose()

    @property
    def trusted(self) -> bool:
        """Say whether all marks of other replicas, but the last second's, are known here."""
        return time.monotonic() - self._polled < _TRUSTED_FOR

    @property
    def sequence(self) -> int:
        """Return the newest mark that is known here."""
        return self._sequence

    @property
    def generation(self) -> str:
        """Return which set of data is known here; empty before any is."""
        return self._generation

    def follow(
        self,
        heard: Callable[[Sequence[SharedMark], int], None],
        lost: Callable[[Sequence[SharedMark]], None],
    ) -> None:
        """Tell what others mark; see `Replicas.follow`."""
        self._heard, self._lost = heard, lost

    async def look(self, name: str, fields: Sequence[tuple[str, str]], *, lease: str) -> Looked:
        """Return what is stored, in one round trip; see `Replicas.look`."""
        if not self.trusted:
            return Looked()
        flat = [text.encode("latin-1", "replace") for pair in fields for text in pair]
        arguments = [_LARGEST, self._owner, _LEASE if lease else 0, *flat]
        found = await self._run("LOOK", [_entry(name), _lease(lease)], arguments)
        if not isinstance(found, list):
            return Looked()
        data, said = found
        return Looked(data if isinstance(data, bytes) else None, self._took(lease, said))

    async def lease(self, name: str) -> str:
        """Ask to be the one who asks the upstream; see `Looked.lease`."""
        if not self.trusted:
            return ""
        said = await self._run("LEASE", [_lease(name)], [self._owner, _LEASE])
        return self._took(name, said or b"")

    def _took(self, name: str, said: bytes) -> str:
        text = said.decode("latin-1")
        if text == "mine":
            self._leases.add(name)
        return text

    def release(self, name: str, *, unshared: bool) -> None:
        """Give a lease back; see `Replicas.release`."""
        if name in self._leases:
            self._leases.discard(name)
            arguments = [self._owner, _PASS, _PASS_FOR if unshared else 0]
            self._soon(lambda: self._run("RELEASE", [_lease(name)], arguments))

    def keep(
        self, name: str, selecting: Sequence[tuple[str, str | None]], data: bytes, ttl: float
    ) -> None:
        """Store, soon; see `Replicas.keep`."""
        if len(data) > _LARGEST or ttl <= 0:
            return
        names = ",".join([field for field, _ in selecting])
        milliseconds = int(min(ttl, _LONGEST) * 1000) + 1
        arguments = [names, _variant(selecting), data, milliseconds, _MOST_VARIANTS]
        self._soon(lambda: self._run("KEEP", [_entry(name)], arguments))

    def drop(self, name: str) -> None:
        """Forget, soon."""
        self._soon(lambda: self._guarded(self._redis.unlink(_entry(name))))

    def mark(self, marks: Sequence[SharedMark]) -> None:
        """Tell other replicas; what can't be said now is said later, in order."""
        self._unsaid += marks
        self._made += len(marks)
        if len(self._unsaid) > _MOST_MARKS:
            self._unsaid = [SharedMark("all", "", soft=False)]
        self._soon(self._say)

    async def told(self, seconds: float) -> bool:
        """Wait until what was marked here is said; see `Replicas.told`."""
        wanted, ends = self._made, time.monotonic() + seconds
        while True:
            await self._say()
            if self._said >= wanted:
                return True
            if time.monotonic() >= ends:
                return False
            await asyncio.sleep(_AGAIN_AFTER)

    async def _say(self) -> None:
        """Say what is unsaid; what can't be said stays, also if this is cancelled."""
        async with self._saying:
            unsaid, made = self._unsaid, self._made
            if not unsaid:
                return
            keys = [_PREFIX + name for name in ("seq", "marks", "floor")]
            written = [orjson.dumps([mark.kind, mark.name, mark.soft]) for mark in unsaid]
            said = await self._run("MARK", keys, [_MOST_MARKS, *written])
            if not isinstance(said, list):
                return
            self._own.update(map(int, said))
            self._said = made
            if self._unsaid is unsaid:  # else they became too many, and are one that means all
                del unsaid[: len(written)]

    def _soon(self, write: Callable[[], Awaitable[Any]]) -> None:
        if not self._writes.full():
            self._writes.put_nowait(write)

    async def _writes_down(self) -> None:
        while True:
            write = await self._writes.get()
            await write()

    async def _run(
        self, script: str, keys: Sequence[str], arguments: Sequence[Any], within: float = _WITHIN
    ) -> Any:
        """Run a script; None where it fails or takes too long."""
        said = self._scripts[script](keys=list(keys), args=list(arguments))
        return await self._guarded(in_step(self._redis, said, _FITS[script]), within)

    async def _guarded(self, command: Awaitable[Any], within: float = _WITHIN) -> Any:
        try:
            async with asyncio.timeout(within):
                answer = await command
        except (RedisError, OSError, TimeoutError) as error:
            self._why = trouble(error)
            self._count("refused" if refuses(error) else "failed")
            if refuses(error) and time.monotonic() - self._complained > _COMPLAIN_EVERY:
                self._complained = time.monotonic()
                self._log.warning("redis refuses a command", why=self._why)
            return None
        self._count("ok")
        return answer

    def _count(self, outcome: str) -> None:
        if self._observer is not None:
            self._observer.count("extproc_store_answers_total", (outcome,))

    async def _polls(self) -> None:
        while True:
            await self.catch_up()
            self._note(self.trusted)
            await asyncio.sleep(_POLL_EVERY)

    async def written(self) -> None:
        """Write down what waits to be."""
        while not self._writes.empty():
            await self._writes.get_nowait()()

    async def catch_up(self) -> None:
        """Learn what others marked until now, and tell them what they don't know."""
        started = time.monotonic()
        if self._unsaid:
            await self._say()
        # Not between saying and knowing what was said: one's own would be taken for others'.
        async with self._saying:
            if await self._poll():
                self._polled = started

    def _note(self, well: bool) -> None:  # noqa: FBT001 - one fact
        if well is not self._well:
            self._well = well
            if well:
                self._log.info("redis answers again")
            else:
                self._log.warning("stored responses are not used", why=self._why)

    async def _poll(self) -> bool:
        """Ask for marks; say whether they are known now."""
        keys = [_PREFIX + name for name in ("gen", "seq", "marks", "floor")]
        arguments = [secrets.token_hex(8), self._sequence, self._generation]
        found = await self._run("POLL", keys, arguments, _POLL_WITHIN)
        if not isinstance(found, list):
            return False
        generation, sequence, floor, marks = found
        text = generation.decode()
        if text != self._generation:
            known, self._generation = self._generation, text
            if known:  # flushed, or another server
                self._forget()
                return False
        self._hear([_read(mark) for mark in marks], int(floor))
        self._sequence = max(self._sequence, int(sequence))
        return True

    def _forget(self) -> None:
        self._sequence = 0
        self._own.clear()
        if self._lost is not None:
            self._lost(self._unsaid)

    def _hear(self, marks: list[SharedMark], floor: int) -> None:
        if self._heard is not None:
            told = [replace(mark, own=mark.sequence in self._own) for mark in marks]
            self._heard(told, floor)
            self._own.difference_update([mark.sequence for mark in marks])

    async def _renews(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            if self._leases:
                keys = [_lease(name) for name in self._leases]
                await self._run("RENEW", keys, [self._owner, _LEASE])


def _are(*kinds: type | tuple[type, ...]) -> Callable[[Any], bool]:
    """Return what says whether an answer is a list of these."""

    def fits(answer: Any) -> bool:
        if not isinstance(answer, list) or len(answer) != len(kinds):
            return False
        return all(isinstance(one, kind) for one, kind in zip(answer, kinds, strict=True))

    return fits


def _numbers(answer: Any) -> bool:
    return isinstance(answer, list) and all(map(is_number, answer))


# What each script answers.
_FITS: dict[str, Callable[[Any], bool]] = {
    "LOOK": _are((bytes, type(None)), bytes),
    "LEASE": lambda answer: isinstance(answer, bytes),
    "RENEW": is_number,
    "RELEASE": is_number,
    "KEEP": is_number,
    "MARK": _numbers,
    "POLL": _are(bytes, bytes, bytes, list),
}


def _entry(name: str) -> str:
    return f"{_PREFIX}r:{name}"


def _lease(name: str) -> str:
    return f"{_PREFIX}l:{name}"


def _variant(selecting: Sequence[tuple[str, str | None]]) -> str:
    """Return the field of a variant, as the script finds it."""
    parts = [name + ("" if value is None else f"={value}") + "\n" for name, value in selecting]
    return hashlib.sha1(
        "".join(parts).encode("latin-1", "replace"), usedforsecurity=False
    ).hexdigest()


def _read(mark: bytes) -> SharedMark:
    sequence, _, written = mark.partition(b" ")
    kind, name, soft = orjson.loads(written)
    return SharedMark(str(kind), str(name), bool(soft), int(sequence))
