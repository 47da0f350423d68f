"""The versions of the gateway file that one worker has in force."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from extproc.adapters.from_threads import reachable
from extproc.caching import purging
from extproc.caching.called import CachedCalls
from extproc.caching.responses import Responses
from extproc.config.build import Assembly
from extproc.core.errors import ExtprocError, PluginFault, where
from extproc.core.lasting import Lasting
from extproc.core.ports import (
    Caller,
    Clock,
    Fetcher,
    Log,
    Objects,
    Observer,
    Revocations,
    Runtime,
    Services,
    Store,
    uncached,
)
from extproc.core.replicas import Replicas, SharedMark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable, Mapping

    from extproc.caching.marks import Mark
    from extproc.config.build import Step
    from extproc.core.routes import Routes, Running


_LOOK_EVERY = 0.5  # seconds between two looks at whether the exchanges of a version have ended


@dataclass(frozen=True, slots=True)
class Outside:
    """The adapters that plugins work with."""

    runtime: Runtime
    clock: Clock
    store: Store
    caller: Caller
    fetcher: Fetcher
    observer: Observer
    log: Log
    revocations: Revocations
    lasting: Lasting
    objects: Objects
    replicas: Replicas | None = None
    others: Callable[[Sequence[SharedMark]], None] | None = None
    shared: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _InForce:
    assembly: Assembly
    background: set[asyncio.Task[Any]] = field(default_factory=set)


class Versions:
    """Starts a version's plugins before its routes are in force, stops them after."""

    def __init__(self, outside: Outside, routes: Routes, threaded: frozenset[str]) -> None:
        self._outside = outside
        self._routes = routes
        self._threaded = threaded
        self._in_force: dict[str, _InForce] = {}
        self._dropping: dict[str, asyncio.Task[None]] = {}
        self._leaving: list[dict[str, tuple[Step, ...]]] = []  # what exchanges still need, by route

    def share(self, store: Store, replicas: Replicas) -> None:
        """Use storage that replicas share; before the first version."""
        self._outside = replace(self._outside, store=store, replicas=replicas)

    @property
    def names(self) -> list[str]:
        """Return the versions in force, oldest first."""
        return list(self._in_force)

    @property
    def keys_missing(self) -> list[str]:
        """Return the authenticators of the newest version whose keys were never loaded."""
        if not self._in_force:
            return []
        newest = self._in_force[self.names[-1]].assembly
        return [name for name, one in newest.authenticators.items() if one.source.keys is None]

    async def add(self, assembly: Assembly) -> None:
        """Put a version in force beside those there are; one that is being dropped stays.

        Raises:
            ExtprocError: a plugin didn't start; the version isn't in force then.
        """
        version = assembly.loaded.version
        dropping = self._dropping.pop(version, None)
        if dropping is not None:
            dropping.cancel()
        entry = self._in_force.pop(version, None) or await self._started(assembly)
        self._in_force[version] = entry  # the newest is the last
        outside = self._outside
        # Where it was in force its plugins run already, and those that came were never started.
        self._routes.add(
            entry.assembly.routes(outside.runtime, outside.observer, outside.log, self._threaded)
        )
        # What was loaded lives as long as the version: the collector needn't look at it again.
        gc.collect()
        gc.freeze()

    async def _started(self, assembly: Assembly) -> _InForce:
        """Start every plugin; if one can't, stop them all."""
        entry = _InForce(assembly)
        services = self._services(entry)
        everywhere = reachable(services, asyncio.get_running_loop())
        try:
            for route, step in ((r, one) for r, steps in assembly.steps.items() for one in steps):
                given = everywhere if step.limits.threads else services
                await _begun(step, route, given)
        except BaseException:
            await self._stop(entry)
            raise
        return entry

    def purge(self, said: Mapping[str, Any]) -> None:
        """Make stored responses void or stale.

        Args:
            said: by an operator.

        Raises:
            BadPurge: it can't be understood.
        """
        keyed = {key for entry in self._in_force.values() for key in entry.assembly.keyed}
        responses: Responses | None = self._outside.shared.get(Responses)
        if responses is not None:
            # The supervisor tells each worker by itself.
            responses.mark(purging.marks(said, keyed), told=responses.shared is None)

    async def told(self, seconds: float) -> bool | None:
        """Wait until other replicas can hear what was marked here; None where there are none."""
        responses: Responses | None = self._outside.shared.get(Responses)
        if responses is None or responses.shared is None:
            return None
        return await responses.shared.told(seconds)

    def mark(self, marks: Sequence[Mark]) -> None:
        """Make void or stale what another worker of this gateway made so."""
        responses: Responses | None = self._outside.shared.get(Responses)
        if responses is not None:
            responses.mark(marks, told=True)

    def drop(self, version: str, after: float) -> None:
        """Take a version out of force once its exchanges had time to end, seconds from now."""
        if version in self._in_force and version not in self._dropping:
            self._dropping[version] = asyncio.ensure_future(self._drop(version, after))

    async def _drop(self, version: str, after: float) -> None:
        await asyncio.sleep(after)
        self._dropping.pop(version, None)
        running, entry = self._routes.drop(version), self._in_force.pop(version)
        left, background = dict(entry.assembly.steps), entry.background
        del entry  # of a large gateway little is needed by what still runs
        self._leaving.append(left)
        await self._leave(left, running)
        for task in background:
            task.cancel()

    async def _leave(self, left: dict[str, tuple[Step, ...]], running: Running) -> None:
        """Stop plugins, those of a route where an exchange goes on (a long download) behind it.

        Args:
            left: the plugins by route; empty at the end.
            running: says where exchanges go on.
        """
        while left:
            busy = running.names
            over = [name for name in left if name not in busy]
            for name in over:
                await self._stop_plugins(left.pop(name))
            if over:
                # What it was made of holds itself in cycles, out of the collector's sight till now.
                gc.unfreeze()
                gc.collect()
                gc.freeze()
            if left:
                await asyncio.sleep(_LOOK_EVERY)
        self._leaving.remove(left)

    async def stop(self) -> None:
        """Stop every version."""
        for version in self.names:
            self._routes.drop(version)
            await self._stop(self._in_force.pop(version))
        for left in self._leaving:
            while left:
                await self._stop_plugins(left.popitem()[1])

    async def _stop(self, entry: _InForce) -> None:
        for steps in entry.assembly.steps.values():
            await self._stop_plugins(steps)
        for task in entry.background:
            task.cancel()

    async def _stop_plugins(self, steps: Iterable[Step]) -> None:
        for step in steps:
            try:
                await _waited(step.plugin.on_stop())
            except Exception as error:  # noqa: BLE001 - the others must be stopped too
                self._outside.log.error("plugin failed to stop", error=str(error))

    def _services(self, entry: _InForce) -> Services:
        outside, background = self._outside, entry.background

        def spawn(work: Awaitable[None]) -> None:
            task = asyncio.ensure_future(_run(work, outside.log))
            background.add(task)
            task.add_done_callback(background.discard)

        services = Services(
            call=outside.caller.call,
            cached=uncached(outside.caller.call),
            store=outside.store,
            clock=outside.clock,
            log=outside.log,
            metrics=outside.observer,
            fetch=outside.fetcher,
            spawn=spawn,
            revocations=outside.revocations,
            lasting=outside.lasting,
            objects=outside.objects,
            replicas=outside.replicas,
            others=outside.others,
            _shared=outside.shared,
        )
        upstreams = entry.assembly.loaded.gateway.upstreams
        origins = {name: upstream.origin for name, upstream in upstreams.items()}
        return replace(services, cached=CachedCalls(services, origins).call)


async def _run(work: Awaitable[None], log: Log) -> None:
    try:
        await work
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - nobody else would see it
        log.error("work that a plugin began failed", error=repr(error))


async def _begun(step: Step, route: str, services: Services) -> None:
    """Start one plugin.

    Raises:
        PluginFault: it can't be; the message says which, and where it says so.
    """
    try:
        await _waited(step.plugin.on_start(services))
    except ExtprocError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error} ({where(error)})"
        raise PluginFault(f"{step.name} of the route {route} didn't start: {why}") from error


async def _waited(result: Coroutine[Any, Any, None] | Awaitable[None] | None) -> None:
    if isawaitable(result):
        await result
