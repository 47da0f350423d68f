"""`extproc run`: Envoy and workers together, reloading on change, stopping cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters import beside
from extproc.adapters.decision_log import ProxyRecords, Writer
from extproc.adapters.envoy_process import NotTaken
from extproc.adapters.system import JsonLog, capture_logging, system_roots
from extproc.envoy_config.shapes import SERVICE_CLUSTER, Facts
from extproc.host.binding import refuse_what_is_taken, writing
from extproc.host.crew import Crew, decisions_file, decisions_option
from extproc.host.operated import Operated
from extproc.host.proxy import Proxy
from extproc.host.revoking import Revoking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.config.build import Assembly

_UPSTREAM = "upstream."
_WORKERS_STOP_WITHIN = 4.0
_ENDS_WITHIN = 5.0  # seconds that an exchange of an earlier version has beside its hooks' deadlines


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `extproc run` was told.

    Attributes:
        gateway: the gateway file.
        envoy: the binary.
        workers: how many processes decide.
        concurrency: Envoy's worker threads.
        server: the workers' gRPC server, `local` or `grpcio`.
        busy_poll: microseconds for which workers look for the next exchange.
        announce: called once everything serves, with the addresses.
    """

    gateway: Path
    envoy: str
    workers: int = 1
    concurrency: int = 2
    server: str = "local"
    busy_poll: int = 0
    announce: Callable[[str, str], None] | None = None


class Supervisor(Operated):
    """Everything `extproc run` is made of."""

    bound = (*Operated.bound, "listener.address")

    def __init__(self, options: RunOptions) -> None:
        log = JsonLog("supervisor")
        capture_logging(log)
        super().__init__(options.gateway, log)
        self._options = options
        self._before = ""
        self._settling: asyncio.Task[None] | None = None

    def _needed(self) -> set[str]:
        return {self.version, self._before}

    async def _start(self, copied: Assembly) -> None:
        await self._crew.start()
        await self._revoking.begin(self._crew)
        await self._proxy.start(copied)
        address = await self._admin.start()
        listening = copied.loaded.gateway.listener.address
        self._log.info("serving", listener=listening, admin=address, version=self.version)
        if self._options.announce is not None:
            self._options.announce(listening, address)

    def _put_together(self, path: Path) -> None:
        folder, options, loaded = self._folder, self._options, self._assembly.loaded
        refuse_what_is_taken(loaded)
        addresses = [f"unix:{folder}/w{number}" for number in range(options.workers)]
        egress, roots = f"unix:{folder}/egress", system_roots()
        facts = Facts(tuple(addresses), egress, f"unix:{folder}/envoy", str(folder), roots)
        with writing(loaded, "revocations", "file"):
            self._revoking = Revoking(loaded, folder, self._log)
        serving = ("--server", options.server, "--busy-poll", str(options.busy_poll))
        revoked = ("--revocations", str(self._revoking.path))
        extra = (*serving, *revoked, *decisions_option(loaded))
        with writing(loaded, "decisions", "file"):
            self._records = Writer(decisions_file(loaded))
        of_envoy = ProxyRecords(self._records, self._metrics)
        self._crew = Crew(path, folder, addresses, egress, self._log, extra)
        threads = options.concurrency
        self._proxy = Proxy(options.envoy, folder, facts, self._log, threads, of_envoy.take)
        self._admin = self._administration()

    async def _end(self) -> None:
        """Drain and stop, the listener first, so that no request meets a stopped worker."""
        self._draining = True
        if self._crew.ready:
            await self._proxy.drain()
        await self._admin.stop()
        if self._settling is not None:
            await beside.end(self._settling)
        await self._proxy.stop()
        await asyncio.to_thread(self._records.close)
        await self._crew.stop(_WORKERS_STOP_WITHIN)
        await self._revoking.close()

    async def _change(self, original: Assembly, copied: Assembly, path: Path) -> None:
        old = self._assembly
        async with self._crew.changing:
            try:
                await self._crew.load(path, copied.loaded.version)
                await self._proxy.change(copied)
            except Exception:
                await self._crew.drop(copied.loaded.version, 1.0)
                raise
            await self._crew.use(copied.loaded.version)
            self._crew.keep(path)
        self._assembly, self._before = original, old.loaded.version
        after = max(old.longest, 1.0) + _ENDS_WITHIN
        await self._crew.drop(old.loaded.version, after)
        if self._settling is not None:
            await beside.end(self._settling)
        self._settling = asyncio.ensure_future(self._settle(after))

    async def _settle(self, after: float) -> None:
        """Take from Envoy what only earlier versions had, once their exchanges have ended."""
        await asyncio.sleep(after)
        async with self._crew.changing:
            try:
                await self._proxy.settle()
            except (NotTaken, OSError) as error:
                self._log.error("Envoy keeps what earlier versions had", error=str(error))

    async def status(self) -> dict[str, Any]:
        """Return the state of everything, Envoy's as well."""
        endpoints = await self._endpoints()
        return {
            **await super().status(),
            "envoy": {
                "restarts": self._proxy.restarts,
                "healthy_workers": endpoints.get(SERVICE_CLUSTER, {}).get("healthy", 0),
            },
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
