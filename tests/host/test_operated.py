"""What an operator is told when a version can't come in force."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.envoy_process import NotTaken
from extproc.core.errors import ConfigFault
from extproc.host.crew import Crew, LoadRefused
from extproc.host.operated import Operated
from extproc.host.revoking import Revoking
from extproc.testing import Events

if TYPE_CHECKING:
    from pathlib import Path

    from extproc.config.build import Assembly

FILE = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {u: {endpoints: ["http://127.0.0.1:9"]}}
defaults: {authentication: none}
routes: [{name: r, match: {path: /NAME}, upstream: u}]
"""


class Changing(Operated):
    """One without workers, whose changes fail as they are told."""

    error: Exception | None = None

    def _put_together(self, path: Path) -> None:
        self._crew = Crew(path, self._folder, [], "unix:/none", self._log)
        self._revoking = Revoking(self._assembly.loaded, self._folder, self._log)

    async def _start(self, copied: Assembly) -> None:
        del copied

    async def _end(self) -> None:
        await self._crew.stop(1.0)

    def _needed(self) -> set[str]:
        return {self.version}

    def copies(self) -> set[str]:
        """Return the versions of which there are copies."""
        return {copy.name for copy in self._copies.iterdir()}

    async def _change(self, original: Assembly, copied: Assembly, path: Path) -> None:
        del copied, path
        if self.error is not None:
            raise self.error
        self._assembly = original

    def end(self) -> None:
        """As SIGTERM does."""
        self._stop.set()


async def test_a_purge_that_no_worker_heard(tmp_path: Path) -> None:
    """What replicas share is as it was, and it is said."""
    for store, expected in (("memory", {}), ("redis://127.0.0.1:1", {"shared": False})):
        (tmp_path / "gateway.yaml").write_text(FILE + f"store: {store}\n")
        operated = Changing(tmp_path / "gateway.yaml", Events())
        running = asyncio.ensure_future(operated.run())
        async with asyncio.timeout(10):
            while not hasattr(operated, "_revoking"):  # noqa: ASYNC110 - it loads in a thread
                await asyncio.sleep(0.01)
        assert await operated.purge({"all": True}) == {"ok": True, "workers": 0} | expected
        operated.end()
        await running


async def test_what_earlier_versions_were_made_of_is_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of plugins too, whatever they hold: each change of any file would take it once more."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    file = tmp_path / "gateway.yaml"
    plugin = "from extproc import Plugin\n\n\nclass Holds(Plugin):\n    pass\n"
    (tmp_path / "holds.py").write_text(plugin)
    text = FILE.replace("upstream: u}", "upstream: u, plugins: [{use: 'holds.py:Holds'}]}")
    file.write_text(text.replace("NAME", "0"))
    operated = Changing(file, Events())
    running = asyncio.ensure_future(operated.run())
    async with asyncio.timeout(10):
        while not hasattr(operated, "_revoking"):  # noqa: ASYNC110 - it loads in a thread
            await asyncio.sleep(0.01)
    versions = [operated.version]
    for number in range(1, 6):
        file.write_text(text.replace("NAME", str(number)))
        assert (await operated.reload())["ok"]
        versions.append(operated.version)
    there = [v for v in versions if any(f"_{v}_" in name for name in sys.modules)]
    assert versions[-1] in there
    assert len(there) <= 3  # the first, for what is bound at start, and what was just replaced
    operated.end()
    await running


@pytest.mark.parametrize(
    "error",
    [LoadRefused("why"), NotTaken("why"), ConfigFault("why"), OSError("why"), KeyError("why")],
)
async def test_whatever_fails_is_said(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a defect: the version before stays, answer, `/status` and the log say it."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    file, log = tmp_path / "gateway.yaml", Events()
    file.write_text(FILE.replace("NAME", "one"))
    operated = Changing(file, log)
    running = asyncio.ensure_future(operated.run())
    async with asyncio.timeout(10):
        while not hasattr(operated, "_revoking"):  # noqa: ASYNC110 - it loads in a thread
            await asyncio.sleep(0.01)
    first = operated.version
    file.write_text(FILE.replace("NAME", "two"))
    operated.error = error
    answer = await operated.reload()
    status = await operated.status()
    assert answer["error"] == status["last_reload"]["error"]
    assert "why" in answer["error"]
    assert not answer["ok"] and not status["last_reload"]["ok"]  # noqa: PT018 - one thing
    assert answer["version"] == status["version"] == operated.version == first
    assert operated.copies() == {first}
    traces = [fields for _, event, fields in log.events if event == "reload failed"]
    assert bool(traces) == isinstance(error, KeyError)
    operated.error = None
    whole = file.read_text()
    file.write_text(whole + "decisions: {file: other.jsonl}\nadmin: {address: '127.0.0.1:2'}\n")
    refused = "admin, decisions changed, which needs a restart"
    assert (await operated.reload())["error"] == refused
    file.write_text(whole)
    assert (await operated.reload())["ok"]
    assert operated.version != first
    assert operated.copies() == {operated.version}
    operated.end()
    await running
