"""One worker process: decides for Envoy on one address, and does as its supervisor says."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters import beside, control
from extproc.adapters.decision_log import DecisionLog, Writer
from extproc.adapters.egress.caller import EgressCaller
from extproc.adapters.grpcio_server import GrpcioServer, tls_credentials
from extproc.adapters.http_client import HttpFetcher
from extproc.adapters.journal import Journal
from extproc.adapters.local.server import LocalServer
from extproc.adapters.memory_objects import MemoryObjects
from extproc.adapters.memory_store import MemoryStore
from extproc.adapters.metrics import BatchedMetrics
from extproc.adapters.redis_replicas import RedisReplicas
from extproc.adapters.redis_store import RedisStore
from extproc.adapters.revocation_file import RevocationFile
from extproc.adapters.runtime import LoopRuntime
from extproc.adapters.service import Deciding
from extproc.adapters.shared_fetcher import SharedFetcher
from extproc.adapters.siblings import Siblings
from extproc.adapters.system import JsonLog, SystemClock, capture_logging
from extproc.caching.marks import Mark
from extproc.config.build import assemble
from extproc.config.load import load
from extproc.core.errors import ExtprocError
from extproc.core.lasting import Lasting
from extproc.core.revocation import Revoked
from extproc.core.routes import Routes
from extproc.host.matcher import Matcher
from extproc.host.versions import Outside, Versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from extproc.config.build import Assembly
    from extproc.core.ports import Fetcher, Log

_FLUSH_EVERY = 0.5
_SWEEP_EVERY = 0.5
_TOLD_WITHIN = 1.0  # seconds that a purge waits for Redis
_DECISIONS_WITHIN = 0.1
GRACE = 3.0
# An exchange leaves no cycles, so the collector has next to nothing to find.
_COLLECT = (50_000, 20, 50)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker needs to know to start.

    Attributes:
        number: from 0; for logs.
        gateways: the gateway files of the versions in force, oldest first.
        listen: `unix:/path` or `host:port`.
        egress: where calls go out.
        journal: a file shared with the supervisor; None without one.
        control: the file descriptor of the socket to the supervisor; None without one.
        server: `local` or `grpcio`.
        decisions: the file for decision records; None for standard output.
        revocations: the file of revocations; None for none.
        threaded: plugins whose hooks run in threads from the start.
        certificate: PEM files for TLS; None for plain.
        private_key: as `certificate`.
        client_ca: clients must show a certificate of this CA.
        busy_poll: microseconds for which the local server looks for the next exchange.
    """

    number: int
    gateways: tuple[Path, ...]
    listen: str
    egress: str
    journal: Path | None = None
    control: int | None = None
    server: str = "local"
    decisions: Path | None = None
    revocations: Path | None = None
    threaded: frozenset[str] = frozenset()
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    busy_poll: int = 0


class Worker:
    """Everything one worker is made of."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        log = JsonLog(f"worker-{options.number}")
        capture_logging(log)
        self.log: Log = log
        self._runtime = LoopRuntime(Journal(options.journal) if options.journal else None)
        clock = SystemClock()
        self._clock = clock
        self._revoked = Revoked(clock)
        self._lasting = Lasting(self._revoked.hold)
        self._revocations = RevocationFile(options.revocations) if options.revocations else None
        self._follow_revocations()
        self._metrics = BatchedMetrics()
        self._caller = EgressCaller(options.egress)
        self._fetcher = HttpFetcher()
        shared: Fetcher = self._fetcher
        if options.journal is not None:  # the workers of one gateway have their journals together
            shared = SharedFetcher(self._fetcher, options.journal.parent / "fetched")
        self._siblings = Siblings()
        self._loading: dict[str, asyncio.Task[Assembly]] = {}
        self._usable: dict[str, Assembly] = {}
        self._routes = Routes()
        self._matcher = Matcher(self._routes)
        outside = Outside(
            self._runtime,
            clock,
            MemoryStore(clock),
            self._caller,
            shared,
            self._metrics,
            self.log,
            self._revoked,
            self._lasting,
            MemoryObjects(),
            others=self._siblings.tell if options.control is not None else None,
        )
        self._replicas: RedisReplicas | None = None
        self._store: RedisStore | None = None
        self._versions = Versions(outside, self._routes, options.threaded)
        self._decisions = DecisionLog(
            options.number,
            # Whether it can be opened is found out at the start of all; one that takes another's
            # place later has more to do than to write records.
            Writer(options.decisions, at_once=False),
            clock.now,
            self._metrics,
            self._flush_decisions_soon,
        )
        deciding = Deciding(
            self._routes, clock, self._metrics, self.log, self._matcher.match, self._decisions
        )
        self._server: LocalServer | GrpcioServer = _server(options, deciding)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Load the gateway file, serve, and stop when told or when the supervisor is gone."""
        try:
            await self._load_all(self._options.gateways)
            self._server.listen(self._options.listen)
            await self._server.start()
        except BaseException:
            await self._let_go()
            raise
        beside_it = [beside.begin(work, self.log) for work in (self._flush, self._sweep)]
        if self._options.control is not None:
            obey = partial(self._obey, self._options.control)
            beside_it.append(beside.begin(obey, self.log))
        self._on_signals()
        await self._stopping.wait()
        await self._stop()  # still answering the supervisor: who is silent is taken for stuck
        await beside.end(*beside_it)
        self._decisions.close()
        self._metrics.flush()
        self._runtime.close()

    async def _load_all(self, gateways: Sequence[Path]) -> None:
        """Put versions in force, oldest first; an old one that can't be keeps no new one away."""
        *older, newest = gateways
        for gateway in older:
            try:
                await self.load(gateway)
            except Exception as error:  # noqa: BLE001 - whatever its plugins raise
                self.log.error("an older version isn't in force here", error=str(error))
        await self.load(newest)

    def _on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)

    async def load(self, gateway: Path) -> str:
        """Put a gateway file in force, as the newest version.

        Returns:
            The version.

        Raises:
            ConfigError: the file can't be used.
        """
        assembly = await self._prepared(gateway)
        self._give(assembly)
        return assembly.loaded.version

    def _give(self, assembly: Assembly) -> None:
        """Give a version to who names none, and hold what lasts against what it lists."""
        self._matcher.use(assembly)
        self._lasting.listed = assembly.listed

    async def _prepared(self, gateway: Path) -> Assembly:
        """Put a gateway file in force for who names its version."""
        # In a thread: exchanges and pings go on while a large file is compiled.
        assembly = await asyncio.to_thread(_assembled, gateway)
        self._share(assembly.loaded.gateway.shared_store)
        await self._versions.add(assembly)
        return assembly

    def _share(self, store: str | None) -> None:
        """Connect to what replicas share, once: another store needs a restart."""
        if store is None or self._replicas is not None:
            return
        self._replicas = RedisReplicas(store, self.log, self._metrics)
        self._replicas.start()
        self._store = RedisStore(store)
        self._versions.share(self._store, self._replicas)

    async def _obey(self, descriptor: int) -> None:
        try:
            await control.answer(descriptor, self._answer, self._siblings)
        finally:
            self._stopping.set()  # without a supervisor nobody would stop this process

    async def _answer(self, question: str, details: dict[str, Any]) -> dict[str, Any]:
        answers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "ping": self._ping,
            "load": self._load,
            "use": self._use,
            "drop": self._drop,
            "stop": self._told_to_stop,
            "flush": self._told_to_flush,
            "revocations": self._told_of_revocations,
            "purge": self._told_to_purge,
            "marks": self._told_of_marks,
        }
        return await answers[question](details)

    async def _ping(self, _details: dict[str, Any]) -> dict[str, Any]:
        return {
            "ok": True,
            "versions": self._versions.names,
            "keys_missing": self._versions.keys_missing,
        }

    async def _load(self, details: dict[str, Any]) -> dict[str, Any]:
        """Load the version that the supervisor loaded; another one is refused.

        Nobody is given it who doesn't name it, until every worker has it; see `_use`.
        """
        version = details["version"]
        loading = asyncio.ensure_future(self._prepared(Path(details["path"])))
        self._loading[version] = loading
        try:
            assembly = await loading
        except asyncio.CancelledError:
            return {"ok": False, "error": "it was given up"}
        except Exception as error:  # noqa: BLE001 - the supervisor decides what it means
            named = "" if isinstance(error, ExtprocError) else f"{type(error).__name__}: "
            return {"ok": False, "error": f"{named}{error}"}
        finally:
            del self._loading[version]
        if assembly.loaded.version != version:
            self._versions.drop(assembly.loaded.version, 0)
            return {"ok": False, "error": "the file says something else here"}
        self._usable[version] = assembly
        return {"ok": True}

    async def _use(self, details: dict[str, Any]) -> dict[str, Any]:
        """Give a version that was loaded to who names none, too."""
        self._give(self._usable.pop(details["version"]))
        return {"ok": True}

    async def _drop(self, details: dict[str, Any]) -> dict[str, Any]:
        """Drop a version; one that is still being loaded is given up."""
        version = details["version"]
        loading = self._loading.get(version)
        if loading is not None:
            await beside.end(loading)
        self._usable.pop(version, None)
        self._matcher.forget(version)
        self._versions.drop(version, details["after"])
        return {"ok": True}

    async def _told_to_stop(self, _details: dict[str, Any]) -> dict[str, Any]:
        self._stopping.set()
        return {"ok": True}

    async def _told_to_flush(self, _details: dict[str, Any]) -> dict[str, Any]:
        self._decisions.flush()
        self._metrics.flush()
        return {"ok": True}

    async def _told_of_revocations(self, _details: dict[str, Any]) -> dict[str, Any]:
        self._follow_revocations()
        return {"ok": True}

    async def _told_to_purge(self, details: dict[str, Any]) -> dict[str, Any]:
        self._versions.purge(details["said"])
        return {"ok": True, "shared": await self._versions.told(_TOLD_WITHIN)}

    async def _told_of_marks(self, details: dict[str, Any]) -> dict[str, Any]:
        """Take in what another worker made void."""
        self._versions.mark([Mark(kind, name, soft) for kind, name, soft in details["marks"]])
        return {"ok": True}

    def _follow_revocations(self) -> None:
        if self._revocations is not None:
            self._revocations.follow(self._revoked)

    def _flush_decisions_soon(self) -> None:
        asyncio.get_running_loop().call_later(_DECISIONS_WITHIN, self._decisions.flush)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            self._metrics.flush()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            ended = self._lasting.sweep(self._clock.now())
            if ended:
                self.log.info("connections ended with their credentials", count=ended)

    async def _stop(self) -> None:
        await self._server.stop(GRACE)
        await self._let_go()

    async def _let_go(self) -> None:
        """End what versions run in the background, and close what leads elsewhere."""
        await self._versions.stop()
        await self._caller.close()
        await self._fetcher.close()
        if self._replicas is not None and self._store is not None:
            await self._replicas.close()
            await self._store.close()


def _server(options: WorkerOptions, deciding: Deciding) -> LocalServer | GrpcioServer:
    if options.server == "local":
        return LocalServer(deciding, busy_poll=options.busy_poll / 1e6)
    if options.certificate is None or options.private_key is None:
        return GrpcioServer(deciding)
    return GrpcioServer(
        deciding, tls_credentials(options.certificate, options.private_key, options.client_ca)
    )


def _assembled(gateway: Path) -> Assembly:
    return assemble(load(gateway, os.environ))


async def main(options: WorkerOptions) -> None:
    """Run a worker until it is told to stop."""
    gc.set_threshold(*_COLLECT)
    await Worker(options).run()
