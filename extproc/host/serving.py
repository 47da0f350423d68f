"""`extproc serve`: workers on given addresses, for an Envoy that someone else runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from extproc.adapters import beside
from extproc.adapters.admin import AdminServer, new_token, token_file
from extproc.adapters.metrics import exposition, use_folder
from extproc.adapters.system import JsonLog
from extproc.caching import purging
from extproc.core.errors import ConfigFault
from extproc.host import snapshot
from extproc.host.crew import Crew, LoadRefused, decisions_option
from extproc.host.revoking import Revoking
from extproc.host.watch import Watch

_LOOK_EVERY = 0.5
_STOP_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `extproc serve` was told; addresses are `unix:/path` or `host:port`."""

    gateway: Path
    listen: tuple[str, ...]
    egress: str
    server: str = "local"
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    busy_poll: int = 0


class Serving:
    """Everything `extproc serve` is made of.

    An Envoy that someone else runs changes versions when its operator gives it a new
    configuration, so a version once loaded stays in force until this process ends. Over ext_authz
    the newest one counts, unless Envoy names another.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._log = JsonLog("serve")
        self._in_force: set[str] = set()
        self._folder = Path(tempfile.mkdtemp(prefix="extproc-"))
        use_folder(self._folder / "metrics")
        self._stop = asyncio.Event()
        self._error = ""
        self._draining = False

    async def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Raises:
            ConfigError: the gateway file can't be used.
            LoadRefused, OSError: something didn't start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        try:
            self._assembly, _, path = snapshot.take(
                self._options.gateway, os.environ, self._folder / "versions"
            )
            self._revoking = Revoking(self._assembly.loaded, self._folder, self._log)
            self._crew = Crew(
                path,
                self._folder,
                list(self._options.listen),
                self._options.egress,
                self._log,
                self._extra(),
            )
            await self._serve()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _extra(self) -> tuple[str, ...]:
        named = (
            ("--certificate", self._options.certificate),
            ("--private-key", self._options.private_key),
            ("--client-ca", self._options.client_ca),
        )
        tls = [text for name, path in named if path for text in (name, str(path.resolve()))]
        decisions = decisions_option(self._assembly.loaded)
        revoked = ("--revocations", str(self._revoking.path))
        serving = ("--server", self._options.server, "--busy-poll", str(self._options.busy_poll))
        return (*serving, *revoked, *decisions, *tls)

    async def _serve(self) -> None:
        admin = self._assembly.loaded.gateway.admin
        server = AdminServer(admin.address, admin.token or new_token(admin.address), self)
        try:
            await self._crew.start()
            self._in_force.add(self.version)
            await self._revoking.begin(self._crew)
            address = await server.start()
            self._log.info(
                "serving",
                listen=self._options.listen,
                server=self._options.server,
                admin=address,
                version=self.version,
            )
            follow = partial(self._revoking.follow, self._crew)
            looking, following = (beside.begin(work, self._log) for work in (self._look, follow))
            await self._stop.wait()
            await beside.end(looking, following)
        finally:
            self._draining = True
            await server.stop()
            await self._crew.stop(_STOP_WITHIN)
            await self._revoking.close()
            token_file(admin.address).unlink(missing_ok=True)

    @property
    def version(self) -> str:
        """Return the newest version in force."""
        return self._assembly.loaded.version

    async def _look(self) -> None:
        watch = Watch(self._assembly.loaded)
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if watch.changed():
                await self.reload()
                watch.follow(self._assembly.loaded)

    async def reload(self) -> dict[str, object]:
        """Load the gateway file again, beside the versions in force."""
        try:
            original, copied, path = await asyncio.to_thread(
                snapshot.take, self._options.gateway, os.environ, self._folder / "versions"
            )
            if original.loaded.version != self.version:
                await self._load(path, copied.loaded.version)
                self._assembly = original
                self._log.warning(
                    "a new version is in force; give Envoy its configuration (extproc envoy)",
                    version=self.version,
                )
            self._error = ""
        except (ConfigFault, LoadRefused, OSError) as error:
            self._error = str(error)
            self._log.error("reload refused; the running version stays", error=self._error)
        return {"ok": not self._error, "version": self.version, "error": self._error or None}

    async def _load(self, path: Path, version: str) -> None:
        """Have every worker load a version, or none."""
        async with self._crew.changing:
            try:
                await self._crew.load(path, version)
            except LoadRefused:
                if version not in self._in_force:
                    await self._crew.drop(version, 1.0)
                raise
        self._in_force.add(version)

    def ready(self) -> bool:
        """Say whether any worker serves."""
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
        """Return every worker's metrics added up."""
        await self._crew.flush()
        return exposition(self._folder / "metrics")

    async def status(self) -> dict[str, object]:
        """Return the state of everything."""
        return {
            "version": self.version,
            "gateway": str(self._options.gateway),
            "ready": self.ready(),
            "last_reload": {"ok": not self._error, "error": self._error or None},
            "workers": self._crew.described(),
            "revocations": self._revoking.count,
            "revocations_shared": self._revoking.shares,
            "keys_missing": self._crew.keys_missing,
            "routes": [route.name for route in self._assembly.loaded.gateway.routes],
        }
