"""Revoking: what is said to other replicas, and what is heard meanwhile."""

from __future__ import annotations

import json
import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.redis_revocations import RedisRevocations
from extproc.adapters.revocation_file import RevocationFile
from extproc.adapters.system import SystemClock
from extproc.config.load import load
from extproc.core import revocation
from extproc.host import revoking
from extproc.host.revoking import Revoking
from extproc.testing import Events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from extproc.core.ports import Log
    from extproc.core.revocation import Revocation
    from tests.support.redis_server import RedisServer

GATEWAY = """
version: 1
listener: {{address: "127.0.0.1:1"}}
store: "{store}"
defaults: {{authentication: none}}
upstreams: {{shop: {{endpoints: ["http://127.0.0.1:2"]}}}}
routes:
  - {{name: any, match: {{path: /*}}, upstream: shop}}
"""


class Interrupted(RedisRevocations):
    """The stream, in which something else happens between a command and its answer."""

    meanwhile: Callable[[], Awaitable[None]]

    async def add(self, revocations: Iterable[Revocation]) -> None:
        """Add, and let it happen."""
        await super().add(revocations)
        await self.meanwhile()


class Workers:
    """Workers that follow at once."""

    async def follow_revocations(self) -> None:
        """Do so."""


async def test_a_look_may_find_what_is_being_said(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revocation is in force, told once, and the command that made it succeeds."""
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(store=redis.url))
    shared: list[Interrupted] = []

    def interrupted(url: str, log: Log) -> Interrupted:
        shared.append(Interrupted(url, log))
        return shared[-1]

    monkeypatch.setattr(revoking, "RedisRevocations", interrupted)
    subject = Revoking(load(tmp_path / "gateway.yaml", {}), tmp_path, Events())
    workers = Workers()

    async def look() -> None:
        await subject.look(workers)  # type: ignore[arg-type]

    shared[0].meanwhile = look
    answer = await subject.revoke({"subject": "eve"}, workers, ())  # type: ignore[arg-type]
    assert answer["shared"] is True
    assert subject.count == 1
    assert redis.client().xlen("extproc:1:revocations") == 1
    await subject.close()


async def test_why_others_cannot_be_told(redis: RedisServer, tmp_path: Path) -> None:
    """A Redis that answers and takes nothing more says so in the log."""
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(store=redis.url))
    log, workers = Events(), Workers()
    subject = Revoking(load(tmp_path / "gateway.yaml", {}), tmp_path, log)
    redis.client().config_set("maxmemory", "1")
    answer = await subject.revoke({"subject": "trent"}, workers, ())  # type: ignore[arg-type]
    assert answer["shared"] is False
    await subject.look(workers)  # type: ignore[arg-type]
    assert not subject.shares
    assert "maxmemory" in str(log.events[-1][2]["error"])
    redis.client().config_set("maxmemory", "0")
    await subject.look(workers)  # type: ignore[arg-type]
    assert subject.shares
    await subject.close()


async def test_what_others_revoked_and_a_full_disk(redis: RedisServer, tmp_path: Path) -> None:
    """It is said, and written down once there is room: no replica's revocation is lost."""
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(store=redis.url))
    loaded, log, workers = load(tmp_path / "gateway.yaml", {}), Events(), Workers()
    (tmp_path / "other").mkdir()
    other = Revoking(loaded, tmp_path / "other", Events())
    subject = Revoking(loaded, tmp_path, log)
    await subject.look(workers)  # type: ignore[arg-type]
    before, room = subject.count, subject.path.stat().st_size + 5
    with room_for(room), pytest.raises(OSError, match="large"):
        await subject.revoke({"subject": "mallory"}, workers, ())  # type: ignore[arg-type]
    assert (await other.revoke({"subject": "oscar"}, workers, ()))["shared"] is True  # type: ignore[arg-type]
    with room_for(room):
        await subject.look(workers)  # type: ignore[arg-type]
    assert (subject.count, subject.shares) == (before, False)
    await subject.look(workers)  # type: ignore[arg-type]
    assert (subject.count, subject.shares) == (before + 1, True)
    lines = subject.path.read_text().splitlines()
    assert [json.loads(line)["subject"] for line in lines[before:]] == ["oscar"]
    await subject.close()
    await other.close()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let this process make files of so many bytes; what is beyond them fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_more_than_workers_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is written down: a worker that starts must be able to read it all."""
    monkeypatch.setattr(revocation, "_MOST", 2)
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(store="").replace('store: ""\n', ""))
    loaded, workers = load(tmp_path / "gateway.yaml", {}), Workers()
    subject = Revoking(loaded, tmp_path, Events())
    for name in ("alice", "bob"):
        await subject.revoke({"subject": name}, workers, ())  # type: ignore[arg-type]
    with pytest.raises(revocation.BadRevocation, match="revoke by `before`"):
        await subject.revoke({"subject": "carol"}, workers, ())  # type: ignore[arg-type]
    assert len(subject.path.read_text().splitlines()) == 2
    assert Revoking(loaded, tmp_path, Events()).count == 2


async def test_everything_before_a_moment_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is read again, by a supervisor or a worker, and when it is heard last."""
    monkeypatch.setattr(revocation, "_MOST", 2)
    (tmp_path / "gateway.yaml").write_text(GATEWAY.format(store="").replace('store: ""\n', ""))
    loaded, workers, now = load(tmp_path / "gateway.yaml", {}), Workers(), time.time()

    def old(name: str) -> revocation.Revocation:
        return revocation.Revocation(token=name, at=now - 7200, until=now + 60)

    everything = revocation.Revocation(before=now, at=now, until=now + 60)
    subject = Revoking(loaded, tmp_path, Events())
    heard = [old("a"), old("b"), old("c"), everything]
    await subject._keep(heard, workers)  # type: ignore[arg-type]
    for name in ("alice", "bob"):
        await subject.revoke({"subject": name}, workers, ())  # type: ignore[arg-type]
    with pytest.raises(revocation.BadRevocation):
        await subject.revoke({"subject": "carol"}, workers, ())  # type: ignore[arg-type]
    assert Revoking(loaded, tmp_path, Events()).count == 6
    revoked = revocation.Revoked(SystemClock())
    RevocationFile(subject.path).follow(revoked)
    assert len(revoked) == 3
