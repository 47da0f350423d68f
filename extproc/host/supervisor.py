"""`extproc run`: Envoy and workers together, reloading on change, stopping cleanly."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters import beside, envoy_process
from extproc.adapters.admin import AdminServer, new_token, token_file
from extproc.adapters.decision_log import ProxyRecords, Writer
from extproc.adapters.envoy_process import NotTaken
from extproc.adapters.metrics import BatchedMetrics, exposition, use_folder
from extproc.adapters.system import JsonLog, capture_logging, system_roots
from extproc.caching import purging
from extproc.core.errors import ConfigFault
from extproc.envoy_config.shapes import SERVICE_CLUSTER, Facts
from extproc.host import snapshot
from extproc.host.crew import Crew, LoadRefused, decisions_file, decisions_option
from extproc.host.proxy import Proxy
from extproc.host.revoking import Revoking
from extproc.host.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from extproc.config.build import Assembly
    from extproc.config.schema import Gateway
    from extproc.core.ports import Log

_LOOK_EVERY = 0.5
_UPSTREAM = "upstream."
_WORKERS_STOP_WITHIN = 4.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `extproc run` was told.

    Attributes:
        gateway: the gateway file.
        workers: how many processes decide.
        envoy: the binary; None to find it.
        concurrency: Envoy's worker threads.
        server: the workers' gRPC server, `local` or `grpcio`.
        busy_poll: microseconds for which workers look for the next exchange.
        announce: called once everything serves, with the addresses.
    """

    gateway: Path
    workers: int = 1
    envoy: str | None = None
    concurrency: int = 2
    server: str = "local"
    busy_poll: int = 0
    announce: Callable[[str, str], None] | None = None


@dataclass(slots=True)
class LastReload:
    """How the last attempt to load the gateway file went."""

    at: str = ""
    ok: bool = True
    error: str = ""


class Supervisor:
    """Everything `extproc run` is made of."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        log = JsonLog("supervisor")
        capture_logging(log)
        self._log: Log = log
        # Short: a Unix socket's path has at most 107 bytes; 0700: whoever reaches a socket in
        # it gets past authentication.
        self._folder = Path(tempfile.mkdtemp(prefix="extproc-"))
        use_folder(self._folder / "metrics")
        self._metrics = BatchedMetrics()
        self._started = time.time()
        self._last = LastReload()
        self._draining = False
        self._reloading = asyncio.Lock()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start, serve until SIGTERM or Ctrl-C, stop.

        Raises:
            ConfigError: the gateway file can't be used.
            EnvoyFailed, EnvoyNotFound, LoadRefused, OSError: something didn't start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        try:
            original, copied, path = await asyncio.to_thread(self._take)
            binary = envoy_process.binary(self._options.envoy)
            self._put_together(binary, original, path)
            try:
                await self._serve(copied)
            finally:
                await self._end()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self) -> tuple[Assembly, Assembly, Path]:
        versions = self._folder / "versions"
        return snapshot.take(self._options.gateway, os.environ, versions)

    def _put_together(self, binary: str, original: Assembly, path: Path) -> None:
        folder = self._folder
        addresses = [f"unix:{folder}/w{number}" for number in range(self._options.workers)]
        egress = f"unix:{folder}/egress"
        roots = system_roots()
        facts = Facts(
            tuple(addresses),
            egress,
            f"unix:{folder}/envoy",
            str(folder),
            roots,
        )
        self._assembly = original
        self._path = path
        self._revoking = Revoking(original.loaded, folder, self._log)
        revoked = self._revoking.path
        decisions = decisions_option(original.loaded)
        options = self._options
        serving = ("--server", options.server, "--busy-poll", str(options.busy_poll))
        extra = (*serving, "--revocations", str(revoked), *decisions)
        self._records = Writer(decisions_file(original.loaded))
        of_envoy = ProxyRecords(self._records, self._metrics)
        self._crew = Crew(path, folder, addresses, egress, self._log, extra)
        threads = self._options.concurrency
        self._proxy = Proxy(binary, folder, facts, self._log, threads, of_envoy.take)
        self._watch = Watch(original.loaded)
        admin = original.loaded.gateway.admin
        self._admin_address = admin.address
        token = admin.token or new_token(admin.address)
        self._admin = AdminServer(admin.address, token, self)

    async def _serve(self, copied: Assembly) -> None:
        await self._crew.start()
        await self._revoking.begin(self._crew)
        await self._proxy.start(copied)
        address = await self._admin.start()
        listening = copied.loaded.gateway.listener.address
        self._log.info("serving", listener=listening, admin=address, version=self.version)
        if self._options.announce is not None:
            self._options.announce(listening, address)
        follow = partial(self._revoking.follow, self._crew)
        looking, following = (beside.begin(work, self._log) for work in (self._look, follow))
        await self._stop.wait()
        await beside.end(looking, following)

    @property
    def version(self) -> str:
        """Return the version in force."""
        return self._assembly.loaded.version

    async def _look(self) -> None:
        """Reload when a file changed."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._watch.changed():
                await self.reload()

    async def _end(self) -> None:
        """Drain and stop, the listener first, so that no request meets a stopped worker."""
        self._draining = True
        if self._crew.ready:
            await self._proxy.drain()
        await self._admin.stop()
        await self._proxy.stop()
        await asyncio.to_thread(self._records.close)
        await self._crew.stop(_WORKERS_STOP_WITHIN)
        await self._revoking.close()
        token_file(self._admin_address).unlink(missing_ok=True)
        self._log.info("stopped")

    async def reload(self) -> dict[str, Any]:
        """Load the gateway file again; on any trouble the running version stays."""
        async with self._reloading:
            try:
                original, copied, path = await asyncio.to_thread(self._take)
                if original.loaded.version != self.version:
                    _same_places(self._assembly.loaded.gateway, original.loaded.gateway)
                    await self._change(original, copied, path)
            except (ConfigFault, LoadRefused, NotTaken, OSError) as error:
                return self._note(str(error))
            self._watch.follow(self._assembly.loaded)
            return self._note("")

    async def _change(self, original: Assembly, copied: Assembly, path: Path) -> None:
        old, old_path = self._assembly, self._path
        async with self._crew.changing:
            try:
                await self._crew.load(path, copied.loaded.version)
                await self._proxy.change(copied)
            except (LoadRefused, NotTaken):
                self._crew.keep(old_path)
                await self._crew.drop(copied.loaded.version, 1.0)
                raise
        self._assembly, self._path = original, path
        await self._crew.drop(old.loaded.version, max(old.longest, 1.0) + 5.0)

    def _note(self, error: str) -> dict[str, Any]:
        """Keep how a reload went, count it, and say it."""
        self._last = LastReload(
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            not error,
            error,
        )
        self._metrics.count("extproc_reloads_total", ("failed" if error else "ok",))
        self._metrics.flush()
        if error:
            self._log.error("reload refused; the running version stays", error=error)
        else:
            self._log.info("reloaded", version=self.version)
        return {"ok": not error, "version": self.version, "error": error or None}

    def ready(self) -> bool:
        """Say whether requests should be sent here."""
        return self._crew.ready and not self._draining

    async def revoke(self, said: dict[str, Any]) -> dict[str, Any]:
        """Revoke what is said, on every worker.

        Raises:
            BadRevocation: it can't be understood.
        """
        known = self._assembly.loaded.gateway.authentication
        return await self._revoking.revoke(said, self._crew, known)

    async def purge(self, said: dict[str, Any]) -> dict[str, Any]:
        """Make stored responses void or stale, on every worker.

        Raises:
            BadPurge: it can't be understood.
        """
        purging.marks(said, ())
        return {"ok": True, **await self._crew.purge(said)}

    def keys_missing(self) -> list[str]:
        """Return the authenticators whose keys were never loaded."""
        return self._crew.keys_missing

    async def metrics(self) -> bytes:
        """Return every process's metrics added up."""
        self._metrics.flush()
        await self._crew.flush()
        return exposition(self._folder / "metrics")

    async def status(self) -> dict[str, Any]:
        """Return the state of everything."""
        endpoints = await self._endpoints()
        return {
            "version": self.version,
            "gateway": str(self._options.gateway),
            "uptime_seconds": round(time.time() - self._started, 3),
            "ready": self.ready(),
            "last_reload": {
                "at": self._last.at or None,
                "ok": self._last.ok,
                "error": self._last.error or None,
            },
            "workers": self._crew.described(),
            "envoy": {
                "restarts": self._proxy.restarts,
                "healthy_workers": endpoints.get(SERVICE_CLUSTER, {}).get("healthy", 0),
            },
            "routes": [route.name for route in self._assembly.loaded.gateway.routes],
            "revocations": self._revoking.count,
            "revocations_shared": self._revoking.shares,
            "keys_missing": self._crew.keys_missing,
            "upstreams": {
                name.removeprefix(_UPSTREAM): counts
                for name, counts in endpoints.items()
                if name.startswith(_UPSTREAM)
            },
        }

    async def _endpoints(self) -> dict[str, Any]:
        """Return how many endpoints of each cluster are healthy, by Envoy."""
        return {c["name"]: _counted(c) for c in await self._proxy.admin.clusters()}


def _counted(cluster: Mapping[str, Any]) -> dict[str, int]:
    hosts = cluster.get("host_statuses", [])
    well = [
        host
        for host in hosts
        if host.get("health_status", {}).get("eds_health_status") == "HEALTHY"
        and not set(host["health_status"]) - {"eds_health_status"}
    ]
    return {"endpoints": len(hosts), "healthy": len(well)}


class NeedsRestart(ConfigFault):
    """A reload changes what only a restart can change."""


def _same_places(old: Gateway, new: Gateway) -> None:
    """Refuse a reload that moves what is bound at start.

    Raises:
        NeedsRestart: it does.
    """
    moved = [
        name
        for name, one, two in (
            ("listener.address", old.listener.address, new.listener.address),
            ("admin", old.admin, new.admin),
            ("store", old.store, new.store),
            ("decisions", old.decisions, new.decisions),
            ("revocations", old.revocations, new.revocations),
        )
        if one != two
    ]
    if moved:
        raise NeedsRestart(f"{', '.join(moved)} changed, which needs a restart")
