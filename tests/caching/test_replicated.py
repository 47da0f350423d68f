"""What workers share over a real Redis: who gets which response, and what is void."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.redis_replicas import RedisReplicas
from extproc.caching import making
from extproc.caching.keys import KeyOf, name_of
from extproc.caching.marks import ALL, Mark, Marks
from extproc.caching.plugin import Cache
from extproc.caching.replicated import Place, Replicated, Sought
from extproc.caching.responses import Responses
from extproc.caching.storing import Kept
from extproc.core.headers import Headers
from extproc.core.values import Response
from extproc.testing import Events, ManualClock, Trial
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
KEY = ("trial@1", "https", "shop", "/a")
URI = "https://shop/a"
VARIANT = hashlib.sha1(b"", usedforsecurity=False).hexdigest()  # of no selecting field


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Run a Redis."""
    with redis_server() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """Begin with nothing in it."""
    server.client().flushall()
    return server


class Worker:
    """A worker's cache, and what it knows of the others."""

    def __init__(self, url: str) -> None:
        self.replicas = RedisReplicas(url, Events())
        self.trial = Trial(Cache(key=KeyOf("trial@1")))
        self.trial.replicas = self.replicas

    async def caught_up(self) -> None:
        """Know all that others said until now."""
        await self.replicas.written()
        for _ in range(3):
            await self.replicas.catch_up()
        assert self.replicas.trusted

    async def ask(
        self,
        upstream: Callable[[Headers, bytes], Response],
        headers: dict[str, str] | None = None,
    ) -> str:
        """Return the body of what a client gets, and let others have it."""
        response = await self.trial.request("GET", "/a", headers, upstream=upstream)
        await self.replicas.written()
        return bytes(response.body or b"").decode("latin-1")

    def purge(self) -> None:
        """Make all that is stored void, here and elsewhere."""
        self.trial.services.shared(Responses).mark([Mark(ALL)])


@asynccontextmanager
async def workers(redis: RedisServer, count: int = 2) -> AsyncIterator[list[Worker]]:
    """Run workers that know each other."""
    running = [Worker(redis.url) for _ in range(count)]
    try:
        for one in running:
            await one.trial.start()
            await one.caught_up()
        yield running
    finally:
        for one in running:
            await one.replicas.close()


async def test_what_is_stored_while_redis_is_away_is_given_later(redis: RedisServer) -> None:
    """Nothing is given while marks of others may be missing; what was stored meanwhile, then."""
    one = Worker(redis.url)
    upstream = by("x-any")

    async def said() -> str:
        response = await one.trial.request("GET", "/a", upstream=upstream)
        return response.headers.get("cache-status") or ""

    try:
        await one.trial.start()
        assert [await said() for _ in range(2)] == ["extproc; fwd=uri-miss; stored"] * 2
        await one.caught_up()
        assert "; hit" in await said()
    finally:
        await one.replicas.close()


def by(name: str) -> Callable[[Headers, bytes], Response]:
    """Return an upstream whose answers depend on a field."""

    def says(headers: Headers, _body: bytes) -> Response:
        fields = {"cache-control": "max-age=60", "vary": name}
        return Response(200, fields, (headers.get(name) or "nobody").encode("latin-1"))

    return says


@pytest.mark.parametrize("name", ["x-context", "accept-language", "user-agent", "cookie"])
@pytest.mark.parametrize("length", [10, 255, 256, 257, 1024, 1025, 9000])
def test_long_fields_select_as_short_ones_do(redis: RedisServer, name: str, length: int) -> None:
    """The one that asks without, and all that differ at the end alone, get their own."""

    async def run() -> None:
        upstream = by(name)
        async with workers(redis) as (one, two):
            values = [None, *("a" * (length - 2) + end for end in ("-b", "-c", "\xe9"))]
            for value in values:
                headers = {} if value is None else {name: value}
                assert await one.ask(upstream, headers) == (value or "nobody")

            def none(*_: object) -> Response:
                raise AssertionError("it is there")

            for value in values:
                headers = {} if value is None else {name: value}
                assert await two.ask(none, headers) == (value or "nobody")

    asyncio.run(run())


def test_what_comes_back_is_held_against_the_request(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a store gives for a request: it isn't given to one that selects another."""

    async def run() -> None:
        async with workers(redis) as (one, two):
            await one.ask(by("x-context"), {"x-context": "a"})
            look = two.replicas.look

            async def looks(name: str, _fields: object, *, lease: str) -> object:
                return await look(name, [("x-context", "a")], lease=lease)

            monkeypatch.setattr(two.replicas, "look", looks)
            assert await two.ask(by("x-context"), {"x-context": "b"}) == "b"

    asyncio.run(run())


@pytest.mark.parametrize("how", ["flushed", "behind"])
def test_what_was_asked_for_in_another_set_of_data_is_void(redis: RedisServer, how: str) -> None:
    """Marks are counted anew then: a purge means what was under way too."""

    async def run() -> None:
        async with workers(redis, 3) as (one, two, three):
            client = redis.client()
            if how == "behind":
                one.purge()
                await one.caught_up()
            old = {str(key, "ascii"): client.dump(key) for key in client.scan_iter()}
            for _ in range(6):
                one.purge()
                await one.caught_up()

            responses = one.trial.services.shared(Responses)
            stamp = responses.stamp  # a request goes to the upstream now
            client.flushall()
            for key, data in old.items() if how == "behind" else ():
                client.restore(key, 0, data or b"")
            for worker in (one, two, three):
                await worker.caught_up()
            fields = Headers([("cache-control", "max-age=600")])
            now, kept = one.trial.clock.now(), Kept(lifetime=600.0)
            came = making.made(
                200, fields, b"old", kept, Headers(), sent=now, now=now, uri=URI, stamp=stamp
            )
            assert came is not None
            responses.keep(KEY, came)
            for worker in (one, two, three):
                await worker.caught_up()
            two.purge()
            for worker in (two, three, one):
                await worker.caught_up()
            for worker in (three, one):
                found = worker.trial.services.shared(Responses).select(KEY, Headers())[0]
                shared = worker.trial.services.shared(Responses).shared
                assert found is None
                assert shared is not None
                assert await shared.look(KEY, Headers(), now) == (None, "")

    asyncio.run(run())


@pytest.mark.parametrize("known", [False, True])
def test_a_mark_ends_with_the_data_it_was_made_in(redis: RedisServer, *, known: bool) -> None:
    """What is stored afterwards is given again, also where the mark was made meanwhile."""

    async def run() -> None:
        async with workers(redis) as (one, two):
            if known:
                one.purge()
                await one.replicas.written()
            redis.client().flushall()
            if not known:
                one.purge()
            for worker in (one, two, one):
                await worker.caught_up()
            assert await two.ask(by("x-context")) == "nobody"
            shared = one.trial.services.shared(Responses).shared
            assert shared is not None
            key = ("trial@1", "http", "shop", "/a")
            found, _ = await shared.look(key, Headers(), one.trial.clock.now())
            assert found is not None

    asyncio.run(run())


class CountedLeases(RedisReplicas):
    """Counts how often a lease is asked for by itself."""

    asked = 0

    async def lease(self, name: str) -> str:
        """Count, and ask."""
        self.asked += 1
        return await super().lease(name)


async def test_a_redis_that_is_silent_is_waited_for_once(redis: RedisServer) -> None:
    """Without an answer nothing is asked for a second time; void data is as good as none."""
    replicas = CountedLeases(redis.url, Events())
    shared = Replicated(replicas, Marks())
    clock = ManualClock()
    try:
        await replicas.catch_up()
        place: Place = (KEY, ())

        async def sought() -> str:
            headers = Headers()
            now = clock.monotonic()
            found: Sought[bool] = await shared.seek(
                place, headers, clock, now, lambda *_: None, leads=True
            )
            return found.lease

        redis.client().hset(f"extproc:1:r:{name_of(KEY)}", mapping={"vary": "", VARIANT: "none"})
        assert await sought() == "mine"
        assert replicas.asked == 1
        shared.release(place, unshared=False)
        redis.pause()
        assert await sought() == ""
        assert replicas.asked == 1
    finally:
        redis.go_on()
        await replicas.close()


@pytest.mark.parametrize("said", [True, False])
def test_what_is_shared_is_held_against_what_it_is_wanted_for(
    redis: RedisServer,
    said: bool,  # noqa: FBT001 - one case of two
) -> None:
    """Names of what a response is wanted for void it there too, before others know and after."""

    async def run() -> None:
        async with workers(redis) as (one, two):
            first, now = one.trial.services.shared(Responses), one.trial.clock.now()
            came = making.made(
                200,
                Headers(),
                b"old",
                Kept(lifetime=600.0),
                Headers(),
                sent=now,
                now=now,
                uri=URI,
                stamp=first.stamp,
            )
            assert came is not None
            first.keep(KEY, came)
            await one.caught_up()
            await two.caught_up()
            responses = two.trial.services.shared(Responses)
            responses.mark([Mark("tag", "home")])
            if said:
                await two.caught_up()
            shared = responses.shared
            assert shared is not None

            async def found(*names: tuple[str, str]) -> bool:
                return (await shared.look(KEY, Headers(), now, about=lambda: names))[0] is not None

            assert await found()
            assert await found(("tag", "office"), ("uri", "home"))
            assert not await found(("tag", "office"), ("tag", "home"))

    asyncio.run(run())


def test_who_marks_can_wait_until_others_can_hear_it(server: RedisServer) -> None:
    """For so long at most; what couldn't be said stays, also if the saying is broken off."""

    async def run() -> None:
        async with workers(server) as (one, two):
            responses = two.trial.services.shared(Responses)
            (none, some) = Mark("tag", "none"), Mark("tag", "some")
            assert await one.replicas.told(0)
            server.kill()
            try:
                one.trial.services.shared(Responses).mark([none])
                assert not await one.replicas.told(0)
                assert not await one.replicas.told(0.1)
                broken_off = asyncio.ensure_future(one.replicas.told(9))
                await asyncio.sleep(0)
                broken_off.cancel()
            finally:
                server.start()
            for worker in (one, two):
                await worker.caught_up()
            before = responses.marks.sequence
            first = one.trial.services.shared(Responses)
            first.mark([none])
            assert all(await asyncio.gather(one.replicas.told(9), one.replicas.told(9)))
            first.mark([some] * 3)
            assert await one.replicas.told(9)
            for worker in (one, two):
                await worker.caught_up()
            assert responses.marks.sequence == before + 4
            # What it said itself it knows to be its own, whoever said it.
            assert first.shared is not None
            assert not first.shared._own

    asyncio.run(run())


def test_what_is_void_in_one_worker_is_taken_from_another(redis: RedisServer) -> None:
    """After a purge one asks the upstream; who had a void copy of its own takes what came."""

    async def run() -> None:
        asked: list[str] = []

        def upstream(_headers: Headers, _body: bytes) -> Response:
            asked.append("again")
            return Response(200, {"cache-control": "max-age=60"}, str(len(asked)).encode())

        async with workers(redis, 3) as (one, two, three):
            assert [await worker.ask(upstream) for worker in (one, two, three)] == ["1", "1", "1"]
            one.purge()
            for worker in (one, two, three):
                await worker.caught_up()
            assert [await worker.ask(upstream) for worker in (two, one, three)] == ["2", "2", "2"]

    asyncio.run(run())
