"""The Envoy that belongs to a supervisor: kept running, given each version in the right order."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace as replace_in
from typing import TYPE_CHECKING, Any

from extproc.adapters import beside, processes
from extproc.adapters.envoy_process import EnvoyAdmin, replace
from extproc.envoy_config import compile as compiler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from extproc.config.build import Assembly
    from extproc.core.ports import Log
    from extproc.envoy_config.compile import Files
    from extproc.envoy_config.shapes import Facts

# One JSON line per event, as ours are; %j is the message, escaped.
_LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%e%z","level":"%l","source":"envoy","event":"%j"}'
_READY_WITHIN = 20.0
_TAKEN_WITHIN = 5.0
_ASK_AGAIN = 0.02
_DRAIN_WITHIN = 4.0
_ACCEPTS_FOR = 1.0


class EnvoyFailed(RuntimeError):
    """Envoy didn't start."""


class Proxy:
    """One Envoy process and the files it reads.

    Args:
        binary: Envoy's.
        folder: for the files.
        facts: what the compiler must know.
        log: for events.
        concurrency: Envoy's worker threads.
        record: takes each decision record that Envoy writes, a line with its end.
    """

    def __init__(
        self,
        binary: str,
        folder: Path,
        facts: Facts,
        log: Log,
        concurrency: int,
        record: Callable[[bytes], None],
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._facts = facts
        self._log = log
        self._concurrency = concurrency
        self._record = record
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._present: Files | None = None
        self._newest: Files | None = None  # where more than it is present
        self.restarts = 0
        self.admin = EnvoyAdmin(facts.admin.removeprefix("unix:"))
        self._said: deque[str] = deque(maxlen=3)
        self._following: asyncio.Future[Any] | None = None

    async def start(self, assembly: Assembly) -> None:
        """Write every file, start Envoy, and wait until it serves.

        Raises:
            EnvoyFailed: it ended, or doesn't serve in time; the message holds what it said.
        """
        files = self._compiled(assembly)
        replace(self._folder / "bootstrap.json", compiler.bootstrap(self._facts))
        for name in ("clusters", "listeners", "routes", "egress"):
            self._write(name, getattr(files, name))
        self._present = files
        await self._launch()
        await self._until_ready()
        self._task = beside.begin(self._keep, self._log)

    def _compiled(self, assembly: Assembly) -> Files:
        gateway, version = assembly.loaded.gateway, assembly.loaded.version
        return compiler.files(gateway, assembly.modes, self._facts, version, assembly.published)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        replace(self._folder / f"{name}.json", content)

    async def _launch(self) -> None:
        self._process = await processes.start(
            [
                self._binary,
                "-c",
                str(self._folder / "bootstrap.json"),
                "--disable-hot-restart",
                "--drain-strategy",
                "immediate",
                "--log-level",
                "warning",
                "--log-format",
                _LOG_FORMAT,
                "--concurrency",
                str(self._concurrency),
                "--file-flush-interval-msec",
                "250",
            ],
            environment=os.environ,
            output=asyncio.subprocess.PIPE,
        )
        output, errors = self._process.stdout, self._process.stderr
        assert output is not None and errors is not None  # noqa: S101, PT018 - they were asked for
        self._following = asyncio.gather(self._take_records(output), self._follow(errors))

    async def _take_records(self, lines: asyncio.StreamReader) -> None:
        """Hand on Envoy's decision records; what ends without a line's end is half of one."""
        while (line := await lines.readline()).endswith(b"\n"):
            self._record(line)

    async def _follow(self, lines: asyncio.StreamReader) -> None:
        """Pass on what Envoy says, and remember the last of it."""
        while line := await lines.readline():
            text = _without_query(line.decode(errors="replace"))
            self._said.append(text.strip())
            with suppress(OSError, ValueError):
                sys.stderr.write(text)
                sys.stderr.flush()

    async def _until_ready(self) -> None:
        """Wait until Envoy serves and has seen a healthy worker."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while not (await self.admin.ready() and await self._sees_workers()):
                    if self._process is not None and self._process.returncode is not None:
                        raise EnvoyFailed(f"Envoy ended: {self.said()}")
                    await asyncio.sleep(_ASK_AGAIN)
        except TimeoutError as error:
            raise EnvoyFailed(f"Envoy doesn't serve: {self.said()}") from error

    async def _sees_workers(self) -> bool:
        stats = await self.admin.stats("^cluster[.]extproc[.]membership_healthy$")
        listening = await self.admin.stats("^listener_manager[.]total_listeners_active$")
        return bool(stats.get("cluster.extproc.membership_healthy")) and (
            listening.get("listener_manager.total_listeners_active", 0) > 1
        )

    def said(self) -> str:
        """Return the last lines Envoy wrote."""
        return " | ".join(self._said)

    async def _keep(self) -> None:
        """Start Envoy again whenever it ends."""
        backoff = processes.Backoff()
        while self._process is not None:
            started = time.monotonic()
            await self._process.wait()
            if self._stopping:
                return
            self.restarts += 1
            self._log.error("Envoy ended", status=self._process.returncode, said=self.said())
            await asyncio.sleep(backoff.next(time.monotonic() - started))
            await self._launch()

    async def change(self, assembly: Assembly) -> None:
        """Bring a version in force: clusters old and new, listeners, routes.

        Exchanges of the versions before go on, and make calls: what only those have stays until
        `settle`.

        Raises:
            NotTaken: Envoy refused a step; everything is as before, after any other error too.
        """
        before = self._present
        files = await asyncio.to_thread(self._compiled, assembly)
        assert before is not None  # noqa: S101 - start wrote them
        version, with_old = assembly.loaded.version, f"{assembly.loaded.version}+"
        clusters = _merged(files.clusters, before.clusters, with_old)
        egress = _reaching(files.egress, before.egress, files.clusters, with_old)
        try:
            await self._give("clusters", clusters, "cluster_manager.cds", with_old)
            if files.listeners["resources"] != before.listeners["resources"]:
                await self._give("listeners", files.listeners, "listener_manager.lds", version)
            await self._give("egress", egress, "http.egress.rds.egress", with_old)
            await self._give("routes", files.routes, "http.ingress.rds.ingress", version)
        except Exception:
            for name in ("routes", "egress", "listeners", "clusters"):
                self._restore(name, getattr(before, name))
            raise
        self._present, self._newest = replace_in(files, clusters=clusters, egress=egress), files

    async def settle(self) -> None:
        """Let go of what only earlier versions had: their exchanges have ended.

        Raises:
            NotTaken: Envoy refused; everything old is still there.
        """
        files = self._newest
        if files is None:
            return
        version = files.clusters["version_info"]
        await self._give("egress", files.egress, "http.egress.rds.egress", version)
        await self._give("clusters", files.clusters, "cluster_manager.cds", version)
        self._present, self._newest = files, None

    def _restore(self, name: str, content: dict[str, Any]) -> None:
        """Write what was there; one file that can't be written doesn't keep the others away."""
        try:
            self._write(name, content)
        except OSError as error:
            self._log.error("can't write Envoy's file as it was", file=name, error=str(error))

    async def _give(self, name: str, content: dict[str, Any], prefix: str, version: str) -> None:
        rejected = await self.admin.rejected(prefix)
        self._write(name, content)
        await self.admin.taken(prefix, version, rejected, _TAKEN_WITHIN)

    async def drain(self) -> None:
        """Stop taking new connections and wait a while for requests to end.

        While there are requests, new ones are taken for a moment: who balances the load may not
        know yet. Then the listeners are closed, since else some request would always be running,
        and be cut off with Envoy. The service's own calls go on.
        """
        await self.admin.tell("/healthcheck/fail")  # from now on answers end their connections
        await self._idle_within(_ACCEPTS_FOR)
        await self.admin.tell("/drain_listeners?inboundonly")
        if not await self._idle_within(_DRAIN_WITHIN - _ACCEPTS_FOR):
            self._log.warning("requests were still running at the end of the drain")

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while await self._active():  # noqa: ASYNC110 - Envoy tells when asked
                    await asyncio.sleep(_ASK_AGAIN)
        except TimeoutError:
            return False
        return True

    async def _active(self) -> int:
        name = "http.ingress.downstream_rq_active"
        return int((await self.admin.stats("^http[.]ingress[.]downstream_rq_active$")).get(name, 0))

    async def stop(self) -> None:
        """End Envoy."""
        self._stopping = True
        if self._task is not None:
            await beside.end(self._task)
        if self._process is not None:
            await processes.stop(self._process, 2.0)
        if self._following is not None:
            await self._following
        await self.admin.close()


def _merged(new: dict[str, Any], old: dict[str, Any], version: str) -> dict[str, Any]:
    """Return all clusters of both; where both have one, the new."""
    names = {cluster["name"] for cluster in new["resources"]}
    kept = [cluster for cluster in old["resources"] if cluster["name"] not in names]
    return {"version_info": version, "resources": [*new["resources"], *kept]}


def _reaching(
    new: dict[str, Any], old: dict[str, Any], clusters: dict[str, Any], version: str
) -> dict[str, Any]:
    """Return the new routes of calls, and behind them the old ones to clusters that went."""
    there = {cluster["name"] for cluster in clusters["resources"]}
    [routes], [before] = new["resources"], old["resources"]
    [host], [host_before] = routes["virtual_hosts"], before["virtual_hosts"]
    kept = [one for one in host_before["routes"] if one["route"]["cluster"] not in there]
    hosts = [host | {"routes": [*host["routes"], *kept]}]
    return {"version_info": version, "resources": [routes | {"virtual_hosts": hosts}]}


def _without_query(line: str) -> str:
    """Cut a line of Envoy's log where a query begins: it may hold a credential."""
    event = line.find('"event":')
    query = line.find("?", event)
    return line if event < 0 or query < 0 else f'{line[:query]}"}}\n'
