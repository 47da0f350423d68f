"""Revoking: what is said to other replicas, and what is heard meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.adapters.redis_revocations import RedisRevocations
from extproc.config.load import load
from extproc.host import revoking
from extproc.host.revoking import Revoking
from extproc.testing import Events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    import pytest

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
    answer = await subject.revoke({"subject": "eve"}, workers)  # type: ignore[arg-type]
    assert answer["shared"] is True
    assert subject.count == 1
    assert redis.client().xlen("extproc:1:revocations") == 1
    await shared[0].close()
