"""The workers: started, watched, replaced when they die or stop answering."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters import beside, journal, processes
from extproc.adapters.control import Asker, WorkerGone
from extproc.adapters.metrics import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.config.load import Loaded
    from extproc.core.ports import Log

# What gRPC's C core says isn't JSON; what matters of it comes as errors.
_QUIET = {"GRPC_VERBOSITY": "NONE"}
_PING_EVERY = 0.5
_SILENT_FOR = 2.0
_START_WITHIN = 30.0
_LOAD_WITHIN = 30.0
_ENDED_OVER_IT = 2  # workers, of which one may have ended for another reason


class LoadRefused(RuntimeError):
    """A worker didn't take a version."""


@dataclass(slots=True)
class Place:
    """One worker's place: what stays when its process is replaced."""

    number: int
    listen: str
    journal: Path
    backoff: processes.Backoff
    process: asyncio.subprocess.Process | None = None
    asker: Asker | None = None
    restarts: int = 0
    ready: bool = False
    keys_missing: tuple[str, ...] = ()

    @property
    def starts(self) -> bool:
        """Say whether its process runs but hasn't said yet that it serves."""
        return not self.ready and self.process is not None and self.process.returncode is None


class Crew:
    """Keeps one process in each place.

    Args:
        gateway: the file of the first version.
        folder: the runtime folder.
        addresses: where the workers listen, one each.
        egress: where their calls go out.
        log: for events.
        extra: further options of their command.
    """

    def __init__(
        self,
        gateway: Path,
        folder: Path,
        addresses: list[str],
        egress: str,
        log: Log,
        extra: tuple[str, ...] = (),
    ) -> None:
        self._files: tuple[Path, ...] = (gateway,)
        self._egress = egress
        self._extra = extra
        self._log = log
        self._threaded: set[str] = set()
        self._stopping = False
        self._loading: Place | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._handing_on: set[asyncio.Task[None]] = set()
        self._metrics = folder / "metrics"
        self.places = [
            Place(number, address, folder / f"journal-{number}", processes.Backoff())
            for number, address in enumerate(addresses)
        ]
        # Held while versions change, so that a new worker never starts between two of them.
        self.changing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Say whether any worker serves."""
        return any(place.ready for place in self.places)

    @property
    def keys_missing(self) -> list[str]:
        """Return the authenticators whose keys some worker never loaded."""
        return sorted({name for place in self.places for name in place.keys_missing})

    async def start(self) -> None:
        """Start every worker and wait until all serve.

        Raises:
            LoadRefused: one didn't start.
        """
        await asyncio.gather(*(self._start(place) for place in self.places))
        self._tasks = [beside.begin(partial(self._keep, place), self._log) for place in self.places]

    async def _start(self, place: Place) -> None:
        ours, theirs = socket.socketpair()
        place.process = await processes.start(
            self._command(place, theirs.fileno()),
            environment=os.environ | {FOLDER_VARIABLE: str(self._metrics)} | _QUIET,
            descriptors=[theirs.fileno()],
        )
        theirs.close()
        place.asker = await Asker.open(ours, partial(self._told, place))
        try:
            _note(place, await place.asker.ask("ping", _START_WITHIN * len(self._files)))
            told = await place.asker.ask("revocations", _SILENT_FOR)  # made since it read the file
        except (WorkerGone, TimeoutError) as error:
            await processes.stop(place.process, 0)
            raise LoadRefused(f"worker {place.number} didn't start") from error
        if not told["ok"]:
            await processes.stop(place.process, 0)
            raise LoadRefused(f"worker {place.number} can't take in revocations: {told['error']}")
        place.ready = True

    def _command(self, place: Place, descriptor: int) -> list[str]:
        threaded = [option for name in sorted(self._threaded) for option in ("--threaded", name)]
        return [
            sys.executable,
            *_unlike_a_script(),
            "-m",
            "extproc.cli.worker",
            *map(str, self._files),
            "--number",
            str(place.number),
            "--listen",
            place.listen,
            "--egress",
            self._egress,
            "--journal",
            str(place.journal),
            "--control",
            str(descriptor),
            *threaded,
            *self._extra,
        ]

    async def _keep(self, place: Place) -> None:
        """Replace the process whenever it is gone or silent."""
        while not self._stopping:
            started = time.monotonic()
            await self._until_gone(place)
            place.ready = False
            if self._stopping:
                return
            place.restarts += 1
            await asyncio.sleep(place.backoff.next(time.monotonic() - started))
            await self._replace(place)

    async def _replace(self, place: Place) -> None:
        async with self.changing:
            if self._stopping:
                return
            try:
                await self._start(place)
            except (LoadRefused, OSError) as error:
                self._log.error("worker not started", worker=place.number, error=str(error))

    async def _until_gone(self, place: Place) -> None:
        """Ping until the process ends; kill it when it is silent for too long."""
        process, asker = place.process, place.asker
        if process is None or asker is None:
            return
        while process.returncode is None:
            asked = time.monotonic()
            try:
                _note(place, await asker.ask("ping", _SILENT_FOR))
            except WorkerGone:
                await processes.stop(process, _PING_EVERY)
            except TimeoutError:
                # Who stood still as well, as on a machine that was suspended, hasn't listened.
                listened = time.monotonic() - asked < _SILENT_FOR + _PING_EVERY
                if listened and self._loading is not place:
                    await self._end_stuck(place, process)
            else:
                await _ended_within(process, _PING_EVERY)
        asker.close()
        if not self._stopping:
            self._log.warning("worker ended", worker=place.number, status=process.returncode)

    async def _end_stuck(self, place: Place, process: asyncio.subprocess.Process) -> None:
        """Kill a worker that doesn't answer; whose hook it was in runs in threads next time."""
        plugin = journal.running(place.journal)
        self._log.error("worker is stuck and killed", worker=place.number, plugin=plugin)
        if plugin:
            self._threaded.add(plugin)
        processes.kill(process)
        await process.wait()

    async def load(self, gateway: Path, version: str) -> None:
        """Have every worker load a version beside those it has; `keep` says what stays.

        One after another: a plugin that blocks while it starts holds up one of them.

        Raises:
            LoadRefused: one couldn't, or two (or all) ended over it; others may have it, and all
                must be told to drop it. One that ends by itself comes back with what is kept.
        """
        serving = [place for place in self.places if place.ready]
        ended = 0
        for place in serving:
            if place.asker is None:
                continue
            self._loading = place  # it takes its time, and is no sign that a worker is stuck
            try:
                answer = await place.asker.ask(
                    "load", _LOAD_WITHIN, path=str(gateway), version=version
                )
            except TimeoutError as error:
                raise LoadRefused(f"a worker didn't load it within {_LOAD_WITHIN:.0f} s") from error
            except WorkerGone as error:
                ended += 1
                if ended == min(_ENDED_OVER_IT, len(serving)):
                    problem = "the workers ended while they loaded it: a plugin ends its process"
                    raise LoadRefused(problem) from error
                continue
            finally:
                self._loading = None
            if not answer["ok"]:
                raise LoadRefused(answer["error"])

    async def use(self, version: str) -> None:
        """Have every worker give a version that all have loaded to who names none, too."""
        await self._all("use", _SILENT_FOR, version=version)

    def keep(self, *files: Path) -> None:
        """Start new workers with these versions' files, oldest first."""
        self._files = files

    async def drop(self, version: str, after: float) -> None:
        """Have every worker drop a version, seconds from now."""
        await self._all("drop", _SILENT_FOR, version=version, after=after)

    async def follow_revocations(self) -> None:
        """Have every worker take in the revocations that were written down.

        One that can't, or doesn't answer, is replaced, so that when this returns none accepts what
        was revoked. One that starts may have read them before these, and serve already: it is
        asked as well, and has the time that a start may take.
        """
        for place, answer in await self._asked("revocations", _SILENT_FOR, _START_WITHIN):
            if place.process is None:
                continue
            if isinstance(answer, TimeoutError):  # it may go on before it reads the question
                await self._end_stuck(place, place.process)
            elif isinstance(answer, dict) and not answer["ok"]:
                self._log.error(
                    "worker can't take in revocations and is replaced",
                    worker=place.number,
                    error=answer["error"],
                )
                processes.kill(place.process)
                await place.process.wait()

    async def purge(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Have every worker make stored responses void or stale.

        Returns:
            `workers`, how many did; one that died in the meantime comes back with nothing stored.
            With a shared store `shared`, whether other replicas can hear of it.
        """
        askers = [place.asker for place in self.places if place.ready and place.asker is not None]
        answers = await asyncio.gather(
            *(
                # Each tells the replicas: while it can't, it holds the purge against what it reads
                # of theirs, which one that relied on another wouldn't.
                asker.ask("purge", _SILENT_FOR, said=dict(said))
                for asker in askers
            ),
            return_exceptions=True,
        )
        done = [answer for answer in answers if isinstance(answer, dict) and answer["ok"]]
        shared = [answer["shared"] for answer in done if answer["shared"] is not None]
        found: dict[str, Any] = {"workers": len(done)}
        if shared:
            found["shared"] = any(shared)
        return found

    def _told(self, by: Place, said: dict[str, Any]) -> None:
        """Hand on to the others what one worker made void; to one that starts as well."""
        askers = [p.asker for p in self.places if p is not by and p.asker is not None]
        for asker in askers:
            task = asyncio.ensure_future(_hand_on(asker, said["marks"]))
            self._handing_on.add(task)
            task.add_done_callback(self._handing_on.discard)

    async def flush(self) -> None:
        """Have every worker write its metrics down."""
        await self._all("flush", _SILENT_FOR)

    async def _all(
        self, question: str, seconds: float, **details: Any
    ) -> list[dict[str, Any] | BaseException]:
        """Ask all; one that died in the meantime comes back with the newest version."""
        return [answer for _, answer in await self._asked(question, seconds, **details)]

    async def _asked(
        self, question: str, seconds: float, starting: float = 0.0, **details: Any
    ) -> list[tuple[Place, dict[str, Any] | BaseException]]:
        """Ask all that serve; those that start only where they are given time."""
        asked, answers = [], []
        for place in self.places:
            within = seconds if place.ready else starting if place.starts else 0.0
            if place.asker is not None and within:
                asked.append(place)
                answers.append(place.asker.ask(question, within, **details))
        return list(zip(asked, await asyncio.gather(*answers, return_exceptions=True), strict=True))

    def described(self) -> list[dict[str, Any]]:
        """Return what `/status` says of each worker."""
        return [
            {
                "number": place.number,
                "pid": place.process.pid if place.process is not None else None,
                "ready": place.ready,
                "restarts": place.restarts,
            }
            for place in self.places
        ]

    async def stop(self, seconds: float) -> None:
        """Stop every worker, by force after this long."""
        self._stopping = True
        await beside.end(*self._tasks)
        running = [place.process for place in self.places if place.process is not None]
        await asyncio.gather(*(processes.stop(process, seconds) for process in running))


async def _hand_on(asker: Asker, marks: list[Any]) -> None:
    try:
        await asker.ask("marks", _SILENT_FOR, marks=marks)
    except (WorkerGone, TimeoutError):
        return  # it comes back with nothing stored, or takes it in when it answers again


def _note(place: Place, answer: dict[str, Any]) -> None:
    place.keys_missing = tuple(answer["keys_missing"])


def decisions_option(loaded: Loaded) -> tuple[str, ...]:
    """Return the option that tells workers where decision records go."""
    file = decisions_file(loaded)
    return ("--decisions", str(file)) if file is not None else ()


def decisions_file(loaded: Loaded) -> Path | None:
    """Return the file that decision records go to; None for standard output."""
    file = loaded.gateway.decisions.file
    return loaded.folder / file if file is not None else None


async def _ended_within(process: asyncio.subprocess.Process, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return


def _unlike_a_script() -> list[str]:
    """Return what keeps the current folder, which -m puts before everything, from being imported.

    The installed command doesn't import from there, and a json.py in it is somebody's own. Where
    -m started this process too, a plugin may be in there, which `check` has found.
    """
    by_module = getattr(sys.modules["__main__"], "__spec__", None) is not None
    return [] if by_module and not sys.flags.safe_path else ["-P"]
