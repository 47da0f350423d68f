"""`extproc serve`: workers on given addresses, for an Envoy that someone else runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters.decision_log import Writer
from extproc.adapters.system import JsonLog
from extproc.core.errors import ConfigFault
from extproc.host.binding import refuse_what_is_taken, why_not, writing
from extproc.host.crew import Crew, decisions_file, decisions_option
from extproc.host.operated import Operated
from extproc.host.revoking import Revoking

if TYPE_CHECKING:
    from collections.abc import Collection

    from extproc.config.build import Assembly

_STOP_WITHIN = 5.0
_MOST_IN_FORCE = 8


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


class Serving(Operated):
    """Everything `extproc serve` is made of.

    An Envoy that someone else runs changes versions when its operator gives it a new
    configuration, so a version once loaded stays in force beside the newest ones, also in a worker
    that is replaced. Over ext_authz the newest one counts, unless Envoy names another.
    """

    def __init__(self, options: ServeOptions) -> None:
        super().__init__(options.gateway, JsonLog("serve"))
        self._options = options
        self._in_force: dict[str, Path] = {}  # the copies of the gateway file, oldest first

    def _needed(self) -> Collection[str]:
        return self._in_force

    def _put_together(self, path: Path) -> None:
        self._in_force[self._assembly.loaded.version] = path
        refuse_what_is_taken(self._assembly.loaded, listens=False)
        for address in self._options.listen:
            why = why_not(address)
            if why:
                raise ConfigFault(f"--listen {address} can't be bound: {why}")
        loaded = self._assembly.loaded
        with writing(loaded, "decisions", "file"):
            Writer(decisions_file(loaded)).close()
        with writing(loaded, "revocations", "file"):
            self._revoking = Revoking(loaded, self._folder, self._log)
        listen, egress = list(self._options.listen), self._options.egress
        self._crew = Crew(path, self._folder, listen, egress, self._log, self._extra())
        self._admin = self._administration()

    async def _start(self, copied: Assembly) -> None:
        del copied
        await self._crew.start()
        await self._revoking.begin(self._crew)
        address = await self._admin.start()
        self._log.info(
            "serving",
            listen=self._options.listen,
            server=self._options.server,
            admin=address,
            version=self.version,
        )

    async def _end(self) -> None:
        self._draining = True
        await self._admin.stop()
        await self._crew.stop(_STOP_WITHIN)
        await self._revoking.close()

    def _extra(self) -> tuple[str, ...]:
        named = (
            ("--certificate", self._options.certificate),
            ("--private-key", self._options.private_key),
            ("--client-ca", self._options.client_ca),
        )
        # As they were named: where a link leads may change, and be gone later.
        tls = [text for name, path in named if path for text in (name, str(path.absolute()))]
        decisions = decisions_option(self._assembly.loaded)
        revoked = ("--revocations", str(self._revoking.path))
        serving = ("--server", self._options.server, "--busy-poll", str(self._options.busy_poll))
        return (*serving, *revoked, *decisions, *tls)

    async def status(self) -> dict[str, Any]:
        """Return the state of everything; an Envoy may have any of `versions`, oldest first."""
        return await super().status() | {"versions": list(self._in_force)}

    async def _change(self, original: Assembly, copied: Assembly, path: Path) -> None:
        """Have every worker load a version beside those in force, or none."""
        version = copied.loaded.version
        async with self._crew.changing:
            try:
                await self._crew.load(path, version)
            except Exception:
                if version not in self._in_force:
                    await self._crew.drop(version, 1.0)
                raise
            await self._crew.use(version)
            self._in_force.pop(version, None)
            self._in_force[version] = path
            for oldest in [*self._in_force][:-_MOST_IN_FORCE]:
                del self._in_force[oldest]
                await self._crew.drop(oldest, 0.0)
                self._log.warning("a version is out of force: there are newer ones", left=oldest)
            self._crew.keep(*self._in_force.values())
        self._assembly = original
        self._log.warning(
            "a new version is in force; give Envoy its configuration (extproc envoy)",
            version=self.version,
        )
