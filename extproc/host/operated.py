"""What `run` and `serve` have in common: the version in force, and what an operator asks of it."""

from __future__ import annotations

import abc
import asyncio
import gc
import os
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extproc.adapters import beside
from extproc.adapters.admin import AdminServer
from extproc.adapters.envoy_process import NotTaken
from extproc.adapters.metrics import BatchedMetrics, exposition, use_folder
from extproc.adapters.system import held, remove_forgotten
from extproc.caching import purging
from extproc.core.errors import ConfigFault
from extproc.host import snapshot
from extproc.host.crew import LoadRefused
from extproc.host.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection

    from extproc.config.build import Assembly
    from extproc.config.schema import Gateway
    from extproc.core.ports import Log
    from extproc.host.crew import Crew
    from extproc.host.revoking import Revoking

_PREFIX, _VERSIONS = "extproc-", "versions"
_LOOK_EVERY = 0.5
# Seconds until a reload that failed through no fault of the files is tried again, the longest too.
_AGAIN_AFTER = (2.0, 300.0)


@dataclass(slots=True)
class LastReload:
    """How the last attempt to load the gateway file went."""

    at: str = ""
    ok: bool = True
    error: str = ""


class NeedsRestart(ConfigFault):
    """A reload changes what only a restart can change."""


class Operated(abc.ABC):
    """A gateway that runs until it is told to stop, and reloads its file when that changes.

    One that inherits says how it serves, and how a version comes in force.

    Args:
        gateway: the gateway file.
        log: for events.

    Attributes:
        bound: what of the gateway file is bound at start, by dotted name.
    """

    bound: ClassVar[tuple[str, ...]] = ("admin", "store", "decisions", "revocations")
    _assembly: Assembly
    _crew: Crew
    _revoking: Revoking
    _watch: Watch

    def __init__(self, gateway: Path, log: Log) -> None:
        self._gateway = gateway
        self._log = log
        # Short: a Unix socket's path has at most 107 bytes; 0700: whoever reaches a socket in
        # it gets past authentication.
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._held = held(self._folder)
        self._copies = self._folder / _VERSIONS
        remove_forgotten(_PREFIX, _VERSIONS)
        use_folder(self._folder / "metrics")
        self._metrics = BatchedMetrics()
        self._started = time.time()
        self._last = LastReload()
        self._draining = False
        self._reloading = asyncio.Lock()
        self._again_at, self._again_after = inf, _AGAIN_AFTER[0]
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start, serve until SIGTERM, Ctrl-C or a terminal that is closed, stop.

        Raises:
            ConfigError: the gateway file can't be used.
            EnvoyFailed, LoadRefused, OSError: something didn't start.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        try:
            original, copied, path = await asyncio.to_thread(self._take)
            self._assembly, self._watch = original, Watch(original.loaded)
            self._warn()
            self._put_together(path)
            # A large gateway takes some seconds until it serves.
            routes = len(original.loaded.gateway.routes)
            self._log.info("starting", version=self.version, routes=routes)
            try:
                if await self._started_before_stop(copied):
                    await self._until_stopped()
            finally:
                await self._end()
                self._log.info("stopped")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._held)

    @abc.abstractmethod
    def _put_together(self, path: Path) -> None:
        """Make everything, with nothing started.

        Args:
            path: the gateway file of the first version's copy.
        """

    @abc.abstractmethod
    async def _start(self, copied: Assembly) -> None:
        """Start everything; cancelled where it is time to stop before that is done.

        Args:
            copied: the first version, from its copy.
        """

    @abc.abstractmethod
    async def _end(self) -> None:
        """End everything that was started, whatever of it was."""

    @abc.abstractmethod
    async def _change(self, original: Assembly, copied: Assembly, path: Path) -> None:
        """Bring a version in force; whatever it raises, the one before is in force as it was.

        Args:
            original: the gateway file as it stands.
            copied: the same from its copy.
            path: the copy's gateway file.
        """

    def _take(self) -> tuple[Assembly, Assembly, Path]:
        return snapshot.take(self._gateway, os.environ, self._copies)

    def _administration(self) -> AdminServer:
        """Return the administration interface, not yet started."""
        admin = self._assembly.loaded.gateway.admin
        return AdminServer(admin.address, admin.token, self)

    async def _started_before_stop(self, copied: Assembly) -> bool:
        """Start; return False where it was time to stop meanwhile.

        What starts may take its time, such as a hook of a plugin that waits for its database. Who
        stops this gateway then would kill it, and leave Envoy and workers to their own ends.
        """
        starting = asyncio.ensure_future(self._start(copied))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                return True
            self._log.info("told to stop while it started")
            return False
        finally:
            await beside.end(starting, stopping)

    async def _until_stopped(self) -> None:
        """Follow the gateway file and what is revoked until it is time to stop."""
        follow = partial(self._revoking.follow, self._crew)
        looking, following = (beside.begin(work, self._log) for work in (self._look, follow))
        await self._stop.wait()
        await beside.end(looking, following)

    async def _look(self) -> None:
        """Reload when a file changed, and where one failed for want of room, say."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._watch.changed() or time.monotonic() >= self._again_at:
                await self.reload()

    @property
    def version(self) -> str:
        """Return the newest version in force."""
        return self._assembly.loaded.version

    async def reload(self) -> dict[str, Any]:
        """Load the gateway file again; on any trouble the running version stays."""
        async with self._reloading:
            error = await self._reloaded()
            await asyncio.to_thread(snapshot.tidy, self._copies, self._needed())
            gc.collect()  # what a version was made of holds itself in cycles, a plugin's tables too
            return self._note(error)

    async def _reloaded(self) -> str:
        """Bring the gateway file in force as it is now; return why not, empty where it is."""
        self._again_at = inf
        try:
            original, copied, path = await asyncio.to_thread(self._take)
            if original.loaded.version != self.version:
                self._same_places(original.loaded.gateway)
                await self._change(original, copied, path)
                self._warn()
        except OSError as error:
            self._again_at = time.monotonic() + self._again_after
            self._again_after = min(2 * self._again_after, _AGAIN_AFTER[1])
            return f"{error} (it is tried again)"
        except (ConfigFault, LoadRefused, NotTaken) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a defect; who runs this must hear of it
            self._log.error("reload failed", traceback=traceback.format_exc())
            return f"unexpected {type(error).__name__}: {error} (see the log)"
        self._watch.follow(self._assembly.loaded)
        self._again_after = _AGAIN_AFTER[0]
        return ""

    @abc.abstractmethod
    def _needed(self) -> Collection[str]:
        """Return the versions whose copies somebody may still read."""

    def _warn(self) -> None:
        """Say what `extproc check` warns of."""
        for warning in self._assembly.warnings:
            self._log.warning("gateway file", warning=str(warning))

    def _same_places(self, new: Gateway) -> None:
        """Refuse a reload that moves what is bound at start.

        Raises:
            NeedsRestart: it does.
        """
        old = self._assembly.loaded.gateway
        moved = [name for name in self.bound if attrgetter(name)(old) != attrgetter(name)(new)]
        if moved:
            raise NeedsRestart(f"{', '.join(moved)} changed, which needs a restart")

    def _note(self, error: str) -> dict[str, Any]:
        """Keep how a reload went, count it, and say it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._last = LastReload(now, not error, error)
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
        found = await self._crew.purge(said)
        if not found["workers"] and self._assembly.loaded.gateway.shared_store is not None:
            found["shared"] = False  # what replicas share is as it was, and nobody has told them
        return {"ok": True, **found}

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
        return {
            "version": self.version,
            "gateway": str(self._gateway),
            "uptime_seconds": round(time.time() - self._started, 3),
            "ready": self.ready(),
            "last_reload": {
                "at": self._last.at or None,
                "ok": self._last.ok,
                "error": self._last.error or None,
            },
            "workers": self._crew.described(),
            "routes": [route.name for route in self._assembly.loaded.gateway.routes],
            "revocations": self._revoking.count,
            "revocations_shared": self._revoking.shares,
            "keys_missing": self._crew.keys_missing,
        }
