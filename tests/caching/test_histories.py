"""Whatever happens: what is reused is what RFC 9111 allows (see `oracle.py`)."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.adapters.redis_replicas import RedisReplicas
from extproc.caching.keys import KeyOf
from extproc.caching.plugin import Cache
from extproc.core.values import Response
from extproc.testing import Events, Trial
from tests.caching import oracle

if TYPE_CHECKING:
    from extproc.core.headers import Headers
    from tests.support.redis_server import RedisServer

TARGETS = ("/a", "/b")
_seconds = st.sampled_from([0, 1, 5, 10, 30])
_response_directive = st.one_of(
    st.sampled_from(
        ["no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate", "public", "x"]
    ),
    st.builds("max-age={}".format, _seconds),
    st.builds("s-maxage={}".format, _seconds),
    st.builds("stale-while-revalidate={}".format, _seconds),
    st.builds("stale-if-error={}".format, _seconds),
    st.just("max-age=soon"),
)
_request_directive = st.one_of(
    st.sampled_from(["no-store", "no-cache", "max-stale", "x"]),
    st.builds("max-age={}".format, _seconds),
    st.builds("min-fresh={}".format, _seconds),
    st.builds("max-stale={}".format, _seconds),
)
_said = st.fixed_dictionaries(
    {"status": st.sampled_from([200, 200, 200, 200, 203, 204, 302, 404, 410, 500, 503])},
    optional={
        "cache-control": st.lists(_response_directive, min_size=1, max_size=3).map(", ".join),
        "age": st.sampled_from(["0", "4", "20"]),
        "vary": st.sampled_from(["accept-language", "x-one, accept-language", "*", "x-one"]),
        "etag": st.sampled_from(['"1"', 'W/"2"']),
        "set-cookie": st.just("a=b"),
        "date": st.sampled_from([-20, -1, 0]),
        "expires": st.sampled_from([-10, 5, 25, "never"]),
        "last-modified": st.sampled_from([-100, -1000]),
    },
)
_request = st.fixed_dictionaries(
    {},
    optional={
        "cache-control": st.lists(_request_directive, min_size=1, max_size=2).map(", ".join),
        "accept-language": st.sampled_from(["de", "en"]),
        "x-one": st.sampled_from(["1", "2"]),
    },
)
_step = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(TARGETS), _request, _said),
    st.tuples(st.just("get"), st.sampled_from(TARGETS), _request, _said),
    st.tuples(st.just("get"), st.just("/a"), st.just({}), _said),
    st.tuples(st.just("put"), st.sampled_from(TARGETS)),
    st.tuples(st.just("wait"), _seconds),
    st.tuples(st.just("reload")),
    st.tuples(st.just("other")),
)
HISTORIES = st.lists(_step, min_size=4, max_size=25)


class World:
    """A cache in front of an upstream, and what the oracle knows."""

    def __init__(self, redis: str = "") -> None:
        self._redis = redis
        self._trial = self._worker(None)
        self.given: list[oracle.Given] = []
        self.hits = 0
        self._asked = 0

    def _worker(self, before: Trial | None, *, same: bool = False) -> Trial:
        trial = Trial(Cache(key=KeyOf("trial@1")))
        if before is not None:
            trial.clock = before.clock
            if same:
                trial.share(before)
                trial.replicas = before.replicas
        if self._redis and trial.replicas is None:
            trial.replicas = RedisReplicas(self._redis, Events())
        return trial

    async def run(self, steps: list[Any]) -> None:
        """Take each step; every answer out of the store is held against the oracle."""
        workers = [self._trial]
        try:
            await self._caught_up()
            for step in steps:
                await getattr(self, f"_{step[0]}")(*step[1:])
                if self._trial not in workers:
                    workers.append(self._trial)
                await self._settled()
        finally:
            for replicas in {one.replicas for one in workers}:
                if isinstance(replicas, RedisReplicas):
                    await replicas.close()

    async def _settled(self) -> None:
        await self._trial.settled()
        replicas = self._trial.replicas
        if isinstance(replicas, RedisReplicas):
            await replicas.written()

    async def _caught_up(self) -> None:
        replicas = self._trial.replicas
        if isinstance(replicas, RedisReplicas):
            for _ in range(3):
                await replicas.catch_up()
            assert replicas.trusted

    async def _wait(self, seconds: int) -> None:
        self._trial.clock.move(seconds)

    async def _reload(self) -> None:
        """Another version of the same route in the same worker."""
        self._trial = self._worker(self._trial, same=True)

    async def _other(self) -> None:
        """Another worker: nothing in memory; with Redis, everything there."""
        await self._caught_up()
        self._trial = self._worker(self._trial)
        await self._trial.start()
        await self._caught_up()

    async def _put(self, target: str) -> None:
        await self._trial.request("PUT", target, body=b"x")
        for one in self.given:
            if one.target == target:
                one.void_at = self._trial.clock.now()

    async def _get(self, target: str, asked: dict[str, str], said: dict[str, Any]) -> None:
        before = self._asked

        def upstream(headers: Headers, _body: bytes) -> Response:
            return self._upstream(target, asked, said, headers)

        response = await self._trial.request("GET", target, asked, upstream=upstream)
        if self._asked == before and response.status != 504:
            self._reused(target, asked, response)

    def _upstream(
        self, target: str, asked: dict[str, str], said: dict[str, Any], headers: Headers
    ) -> Response:
        self._asked += 1
        now = self._trial.clock.now()
        fields = {name: self._written(value, now) for name, value in said.items()}
        status = int(fields.pop("status"))
        body = b"" if status == 204 else str(self._asked).encode()
        wanted = headers.get("if-none-match")
        if wanted is not None and wanted == fields.get("etag") and status == 200:
            return self._confirmed(target, fields, wanted)
        self.given.append(oracle.Given(target, asked, status, fields, body, now, now))
        return Response(status, fields, body)

    def _confirmed(self, target: str, fields: dict[str, str], tag: str) -> Response:
        """Answer 304: the newest response with this tag is what it was, with new fields."""
        now = self._trial.clock.now()
        for one in reversed(self.given):
            if one.target == target and one.headers.get("etag") == tag:
                kept = {n: v for n, v in one.headers.items() if n != "age"} | fields
                again = oracle.Given(target, one.asked, one.status, kept, one.body, now, now)
                self.given.append(again)
        response = Response(200, fields, b"")
        response.status = 304
        return response

    @staticmethod
    def _written(value: Any, now: float) -> str:
        if isinstance(value, int) and value < 100:
            return formatdate(now + value, usegmt=True)
        return str(value)

    def _reused(self, target: str, asked: dict[str, str], response: Response) -> None:
        now = self._trial.clock.now()
        self.hits += 1
        allowed = [
            one
            for one in self.given
            if one.body == response.body
            and one.status == response.status
            and oracle.may_be_reused(one, target, asked, now)
        ]
        assert allowed, (target, asked, response.status, dict(response.headers.items()), self.given)


@settings(max_examples=150)
@given(HISTORIES)
def test_in_memory(steps: list[Any]) -> None:
    """Requests, writes, time, and new versions of the file."""
    asyncio.run(World().run(steps))


@settings(max_examples=25)
@given(steps=HISTORIES)
def test_in_redis(redis: RedisServer, steps: list[Any]) -> None:
    """And other workers, which have nothing in memory."""
    redis.client().flushall()
    asyncio.run(World(redis.url).run(steps))


def test_the_oracle_sees_hits() -> None:
    """A history without any would prove nothing."""
    world = World()
    said = {"status": 200, "cache-control": "max-age=10"}
    asyncio.run(world.run([("get", "/a", {}, said)] * 3))
    assert world.hits == 2
