"""What asks Redis: it can be told to stop at any moment, and says why it gets nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from extproc.adapters.redis_replicas import RedisReplicas
from extproc.adapters.redis_revocations import NotShared, RedisRevocations
from extproc.adapters.redis_store import RedisStore
from extproc.config.schema.store import StoreUrl
from extproc.core.replicas import SharedMark
from extproc.testing import Counts, Events
from tests.support.certificates import made
from tests.support.redis_server import redis_server
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.certificates import Made
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


class Between:
    """A proxy in front of Redis; what `extra` holds comes before the next answer."""

    def __init__(self, port: int) -> None:
        self.extra = b""
        self._port = port
        self.open: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

    async def serve(self, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Begin to listen."""
        return await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.ensure_future(self._back(from_redis, writer))
        self.open.append((writer, to_redis))
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                to_redis.write(data)
        to_redis.close()
        await back

    async def close(self) -> None:
        """End every connection."""
        for writer in [writer for pair in self.open for writer in pair]:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                extra, self.extra = self.extra, b""
                writer.write(extra + data)
        writer.close()


@pytest.fixture
async def between(redis: RedisServer) -> AsyncIterator[tuple[str, Between]]:
    """Run a proxy; yields its URL as well."""
    proxy = Between(redis.port)
    async with await proxy.serve() as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", proxy
        await proxy.close()


def bulk(data: bytes) -> bytes:
    """Return bytes as Redis sends them."""
    return b"$%d\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("extra", [b"+OK\r\n", b":1\r\n", b"*0\r\n", bulk(b"other"), b""])
async def test_another_answer_is_never_ones_own(
    extra: bytes, between: tuple[str, Between], redis: RedisServer
) -> None:
    """What is out of step is let go with its connection, and the next one is in step."""
    url, proxy = between
    store = RedisStore(url)
    await store.set("one", b"1", 60.0)
    await store.set("two", b"2", 60.0)
    client: Any = redis.client()
    proxy.extra = extra or bulk(client.get("extproc:2:s:two"))
    assert await store.get("one") is None
    assert [await store.get(name) for name in ("one", "two")] == [b"1", b"2"]
    await store.delete("one")
    assert await store.get("one") is None
    await store.close()


@pytest.mark.parametrize("extra", [b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"*0\r\n", b"*1\r\n:1\r\n"])
async def test_who_is_out_of_step_begins_anew(extra: bytes, between: tuple[str, Between]) -> None:
    """Marks and revocations are known again with the next question."""
    url, proxy = between
    log = Events()
    replicas, shared = RedisReplicas(url, log), RedisRevocations(url, log)
    await replicas.catch_up()
    assert replicas.trusted
    for ask in (partial(replicas.lease, "x"), replicas.catch_up, partial(shared.fresh, 0.0)):
        proxy.extra = extra
        for _ in range(5):  # it may fall among the answers to what a new connection asks first
            with suppress(NotShared):
                await ask()
    proxy.extra = b""
    await replicas.catch_up()
    assert replicas.trusted
    looked = await replicas.look("nothing", [], lease="")
    assert (looked.data, looked.lease) == (None, "")
    assert await shared.fresh(0.0) == ([], False)
    await replicas.close()
    await shared.close()


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


def has(log: Events, part: str) -> bool:
    """Say whether an event was told."""
    return any(part in event for _, event, _ in log.events)


async def test_a_mark_that_redis_evicted(redis: RedisServer) -> None:
    """What it made void can't be known, so everything that is older is void."""
    floors: list[int] = []
    one, two = RedisReplicas(redis.url, Events()), RedisReplicas(redis.url, Events())
    two.follow(lambda _marks, floor: floors.append(floor), lambda _unsaid: None)
    for replicas in (one, two):
        await replicas.catch_up()
    for _ in range(2):
        one.mark([SharedMark("tag", "shoes", soft=False)])
        assert await one.told(5.0)
        redis.client().delete("extproc:1:marks")
        one.mark([SharedMark("tag", "hats", soft=False)])
        assert await one.told(5.0)
        await two.catch_up()
        assert floors[-1] == two.sequence
    count = len(floors)
    one.mark([SharedMark("tag", "coats", soft=False)])
    assert await one.told(5.0)
    await two.catch_up()
    assert floors[count] < two.sequence
    for replicas in (one, two):
        await replicas.close()


@asynccontextmanager
async def over_tls(redis: RedisServer, shown: Made, folder: Path) -> AsyncIterator[int]:
    """Yield a port where Redis is asked over TLS."""
    (folder / "pair.pem").write_text(shown.pem + shown.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")
    proxy = Between(redis.port)
    async with await proxy.serve(context) as server:
        yield server.sockets[0].getsockname()[1]
        await proxy.close()


async def test_a_redis_with_a_certificate_of_ones_own_authority(
    redis: RedisServer, tmp_path: Path
) -> None:
    """It is verified, chain and name, and what is wrong is told."""
    root = made("root")
    for name, one in (("ca", root), ("other", made("other"))):
        (tmp_path / name).write_text(one.pem)

    async def why(host: str, ca: str) -> str:
        log = Events()
        url = f"rediss://{host}:{port}/0?ssl_ca_certs={tmp_path}/{ca}"
        assert StoreOnly.model_validate({"store": url}, context={"folder": str(tmp_path)})
        replicas = RedisReplicas(url, log)
        replicas.start()
        await until_async(lambda: replicas.trusted or has(log, "not used"))
        await replicas.close()
        return "".join(str(fields["why"]) for *_, fields in log.events)

    async with over_tls(redis, made("localhost", root), tmp_path) as port:
        assert await why("localhost", "ca") == ""
        assert "certificate verify failed" in await why("localhost", "other")
        assert "certificate verify failed" in await why("127.0.0.1", "ca")


class StoreOnly(BaseModel):
    """The key of the gateway file that says where."""

    store: StoreUrl


async def test_what_came_of_asking_is_counted() -> None:
    """For alerts: an answer, a refusal, and nobody there."""
    with redis_server() as redis:
        counts, found = Counts(), {}
        right = RedisReplicas(redis.url, Events(), counts)
        await right.catch_up()
        found["ok"] = set(counts.counts)
        counts.counts.clear()
        redis.client().config_set("requirepass", "right")
        wrong = RedisReplicas(redis.url, Events(), counts)
        await wrong.catch_up()
        found["refused"] = set(counts.counts)
        counts.counts.clear()
        redis.kill()
        await right.catch_up()
        found["failed"] = set(counts.counts)
        await right.close()
        await wrong.close()
    for outcome, counted in found.items():
        assert counted == {("extproc_store_answers_total", (outcome,))}


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

        right = wrong.replace("wrong", "right")
        for limit in (("maxmemory", "1"), ("min-replicas-to-write", "1")):
            client.config_set(*limit)
            log = Events()
            replicas = RedisReplicas(right, log)
            replicas.start()
            await until_async(partial(has, log, "not used"))
            await replicas.close()
            [(_, event, fields)] = [one for one in log.events if "not used" in one[1]]
            assert any(word in str(fields["why"]) for word in ("OOM", "NOREPLICAS")), fields
            client.config_set(limit[0], "0")

        replicas = RedisReplicas(right, Events())
        await replicas.catch_up()
        await replicas.close()
        client.config_set("maxmemory", "1")
        log = Events()
        replicas = RedisReplicas(right, log)
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
