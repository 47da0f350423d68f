"""A worker in this process: what it is asked, and what it decides by."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.metrics import use_folder
from extproc.adapters.wire_authz import decode
from extproc.config.errors import ConfigError
from extproc.config.load import load
from extproc.core.exchange import Exchange
from extproc.core.messages import Continue, RequestHeaders
from extproc.core.routes import Route
from extproc.core.values import Request
from extproc.host.worker import Worker, WorkerOptions
from extproc.testing import Counts
from tests.local.services import check_request
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FILE = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {u: {endpoints: ["http://127.0.0.1:9"]}}
defaults: {authentication: none}
routes:
  - name: NAME
    match: {path: /*}
    upstream: u
    plugins: [{use: "plugins.py:Starts", with: {waits: WAITS}}]
"""
PLUGINS = """
import asyncio
from pathlib import Path
from extproc import Plugin

class Starts(Plugin):
    waits: float

    async def on_start(self, services):
        self.itself = self  # a cycle, as plugins make them
        Path("BEGUN").touch()
        await asyncio.sleep(self.waits)

    def on_stop(self):
        with Path("BEGUN").with_name("stopped").open("a") as file:
            file.write("x")
"""


class Given:
    """A worker, and the versions of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        use_folder(folder / "metrics")
        options = WorkerOptions(0, (), "unix:/none", "127.0.0.1:1", decisions=folder / "records")
        self.worker = Worker(options)

    def file(self, name: str, waits: float | str = 0.0) -> Path:
        """Write a gateway file whose only route has this name."""
        (self.folder / "plugins.py").write_text(
            PLUGINS.replace("BEGUN", str(self.folder / "begun"))
        )
        file = self.folder / f"{name}.yaml"
        file.write_text(FILE.replace("NAME", name).replace("WAITS", str(waits)))
        return file

    def decides(self) -> str:
        """Return the route of a request that names none."""
        event, _ = decode(check_request("/x"))
        found = self.worker._matcher.match(event.request)
        assert isinstance(found, Route)
        return found.name


@pytest.fixture
async def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Given]:
    """Return a worker without a version."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    made = Given(tmp_path)
    yield made
    await made.worker._stop()


async def test_a_version_decides_once_it_is_used(given: Given) -> None:
    """Not when this worker has loaded it: another one may refuse it yet."""
    await given.worker.load(given.file("old"))
    file = given.file("new")
    version = _version(file)
    asked = {"path": str(file), "version": version}
    assert await given.worker._answer("load", asked) == {"ok": True}
    assert given.decides() == "old"
    assert await given.worker._answer("use", {"version": version}) == {"ok": True}
    assert given.decides() == "new"


async def test_a_version_that_is_dropped_while_it_starts(given: Given) -> None:
    """It is given up, however long its plugins wait, and never decides."""
    await given.worker.load(given.file("old"))
    (given.folder / "begun").unlink()
    file = given.file("new", 60.0)
    version = _version(file)
    asked = {"path": str(file), "version": version}
    loading = asyncio.ensure_future(given.worker._answer("load", asked))
    await until_async((given.folder / "begun").exists)
    assert await given.worker._answer("drop", {"version": version, "after": 0.0}) == {"ok": True}
    assert await loading == {"ok": False, "error": "it was given up"}
    assert given.decides() == "old"
    assert len(given.worker._versions.names) == 1


async def test_plugins_are_stopped_when_the_last_exchange_has_ended(given: Given) -> None:
    """A long download, say, whose pieces they see; those of other routes are stopped before."""
    file = given.file("old")
    other = (
        "  - {name: other, match: {path: /o}, upstream: u, plugins: [{use: 'other.py:Other'}]}\n"
    )
    file.write_text(file.read_text() + other)
    plugin = PLUGINS.replace("Starts", "Other").replace("BEGUN", str(given.folder / "x" / "begun"))
    (given.folder / "x").mkdir()
    (given.folder / "other.py").write_text(plugin.replace("waits: float", "waits: float = 0"))
    version = await given.worker.load(file)
    find = given.worker._routes.find
    exchange = Exchange(find, lambda: 0.0, Counts())
    headers = RequestHeaders(Request(target="/x"), f"old@{version}", end=True)
    assert isinstance(await exchange.receive(headers), Continue)
    await given.worker.load(given.file("new"))
    await given.worker._answer("drop", {"version": version, "after": 0.0})
    await until_async((given.folder / "x" / "stopped").exists)
    assert find(f"old@{version}") is None
    stopped = given.folder / "stopped"
    for _ in range(3):
        await asyncio.to_thread(gc.collect)
        assert not stopped.exists()
    await exchange.finish()
    del exchange
    await until_async(stopped.exists)
    assert not given.worker._versions._leaving


async def test_a_version_that_is_taken_back_while_its_exchanges_end(given: Given) -> None:
    """It is started anew; what was started before is stopped when those have ended."""
    version = await given.worker.load(given.file("old"))
    find = given.worker._routes.find
    running = find(f"old@{version}")
    await given.worker.load(given.file("new"))
    await given.worker._answer("drop", {"version": version, "after": 0.0})
    await until_async(lambda: find(f"old@{version}") is None)
    await given.worker.load(given.file("old"))
    stopped = given.folder / "stopped"
    assert not stopped.exists()
    assert running is not find(f"old@{version}") is not None
    del running
    await until_async(stopped.exists)
    assert find(f"old@{version}") is not None
    assert given.worker._versions.names[-1] == version


async def test_a_worker_that_stops_stops_what_exchanges_held(given: Given) -> None:
    """Also the plugins of a version that went out of force before."""
    version = await given.worker.load(given.file("old"))
    running = given.worker._routes.find(f"old@{version}")
    await given.worker.load(given.file("new"))
    await given.worker._answer("drop", {"version": version, "after": 0.0})
    await until_async(lambda: bool(given.worker._versions._leaving))
    assert running is not None
    assert not (given.folder / "stopped").exists()
    await given.worker._versions.stop()
    assert (given.folder / "stopped").read_text() == "xx"


async def test_a_plugin_that_does_not_start_is_named(given: Given) -> None:
    """Of a dozen plugins on as many routes it is one, and one line of it."""
    file = given.file("first")
    plugins = "from extproc import Plugin\n\n\nclass Starts(Plugin):\n    waits: float\n\n"
    plugins += "    def on_start(self, services):\n        raise ValueError('no database')\n"
    (given.folder / "plugins.py").write_text(plugins)
    asked = {"path": str(file), "version": _version(file)}
    answer = await given.worker._answer("load", asked)
    problem = "Starts of the route first didn't start: ValueError: no database (plugins.py:8)"
    assert answer == {"ok": False, "error": problem}


async def test_a_worker_that_does_not_start_leaves_nothing_open(given: Given) -> None:
    """What an operator reads is why; not, besides, of connections that nobody closed."""
    good, bad = given.file("good"), given.file("bad", "`no number`")
    options = replace(given.worker._options, gateways=(good, bad))
    worker = Worker(options)
    with pytest.raises(ConfigError):
        await worker.run()
    assert worker._fetcher._session.closed
    assert (given.folder / "stopped").read_text() == "x"  # the older version's plugin


async def test_what_a_dropped_version_was_made_of_is_freed(given: Given) -> None:
    """Also what holds itself in cycles, and plugins' files: each reload takes memory else."""
    version = await given.worker.load(given.file("old"))
    modules = [name for name in sys.modules if name.startswith(f"extproc_plugin_{version}_")]
    assert modules  # a class made later, or a copy of an object, is looked for by its name
    plugins = given.worker._versions._in_force[version].assembly.plugins()
    [plugin] = [plugin for plugin in plugins if type(plugin).__name__ == "Starts"]
    kept = weakref.ref(plugin)
    del plugin, plugins
    await given.worker.load(given.file("new"))
    await given.worker._answer("drop", {"version": version, "after": 0.0})
    await until_async(lambda: len(given.worker._versions.names) == 1)
    await until_async(lambda: kept() is None)
    await until_async(lambda: not sys.modules.keys() & set(modules))
    assert gc.isenabled()


def _version(file: Path) -> str:
    return load(file, os.environ).version
