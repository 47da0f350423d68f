"""What the core and the features need of the outside world, as protocols.

The host hands in the adapters; `extproc.testing` has small real ones for tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from extproc.core.answered import Answered
from extproc.core.lasting import Lasting
from extproc.core.replicas import Replicas, SharedMark

if TYPE_CHECKING:
    from collections.abc import Hashable

    from extproc.core.principal import Principal
    from extproc.core.room import Room

T = TypeVar("T")


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC)."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""


class Runtime(Protocol):
    """Waiting, interrupting and threads, for the guard."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""

    def arm(self, name: str, seconds: float) -> float:
        """From now on, interrupt the running hook by `HookInterrupted` after this long.

        Returns:
            The moment, as `monotonic`.
        """

    def disarm(self) -> float:
        """The hook returned.

        Returns:
            The moment, as `monotonic`.
        """

    def wait(self, awaitable: Awaitable[Any], name: str, seconds: float) -> Awaitable[Any]:
        """Await with a deadline, arming each step.

        Raises:
            DeadlinePassed: it wasn't done in time; it was cancelled and left behind.
            HookInterrupted: a step blocked past the deadline.
        """

    def offload(self, function: Callable[[], Any], name: str, seconds: float) -> Awaitable[Any]:
        """Run a blocking function (or one that returns an awaitable) in a thread of its own.

        Raises:
            DeadlinePassed: it wasn't done in time; the thread was told to end and left behind.
        """


class Observer(Protocol):
    """Where measurements go."""

    def count(self, metric: str, labels: tuple[str, ...], by: int = 1) -> None:
        """Add to a counter; `labels` are the values in the order the metric declares."""

    def counter(self, metric: str, labels: tuple[str, ...]) -> Callable[[int], object]:
        """Return what adds to a counter; get it once, call it often."""

    def timer(self, metric: str, labels: tuple[str, ...]) -> Callable[[float], object]:
        """Return what adds a duration, seconds, to a histogram; get it once, call it often."""


class Caller(Protocol):
    """Calls to upstreams, through Envoy's egress listener.

    A call may be `Outstanding`: then it is under way before anybody awaits it.
    """

    def call(
        self,
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,
        max_bytes: int | None = None,
        room: Room | None = None,
        host: str = "",
    ) -> Awaitable[Answered]:
        """Make one call.

        Args:
            upstream: a name under `upstreams:`.
            method: for example `GET`.
            target: path and query, percent-encoded.
            headers: pairs, in order.
            body: bytes; empty for none.
            timeout: seconds for the whole call; None for the upstream's own.
            max_bytes: the largest body that is read; None for the gateway's bound.
            room: what it reads is taken of this, which other calls may share; None for no other
                bound.
            host: the Host that the upstream gets; by default its name under `upstreams:`.

        Raises:
            UpstreamFault: no usable answer; any status is an answer.
        """


Names = tuple[tuple[str, str], ...]
"""By what stored answers are purged or invalidated: `uri` or `tag`, and which."""


class CachedCaller(Protocol):
    """Calls through the cache: what is stored and fresh is given without a call."""

    def call(
        self,
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,
        max_bytes: int | None = None,
        room: Room | None = None,
        identity: str = "",
        stale_if_error: float = 0.0,
        about: Callable[[], Names] | None = None,
        alike: str = "",
        usable: Callable[[Answered], bool] | None = None,
        max_age: float = inf,
    ) -> Awaitable[Answered]:
        """Make one call, or give what is stored of an equal one.

        Args:
            upstream: as for `Caller.call`.
            method: as for `Caller.call`.
            target: as for `Caller.call`.
            headers: as for `Caller.call`.
            body: as for `Caller.call`.
            timeout: as for `Caller.call`.
            max_bytes: as for `Caller.call`.
            room: as for `Caller.call`.
            identity: all that the upstream is told of who is calling, as one text; answers are
                shared only where it is equal. Empty where it is told nothing.
            stale_if_error: seconds past its lifetime for which a stored answer may stand in for a
                call that failed or was answered with 500, 502, 503 or 504.
            about: gives the names of the answer that the call is made for; what is stored isn't
                used where one of them was purged or invalidated since.
            alike: what calls of one kind have in common, such as the path before its holes are
                filled in. Where answers of a kind were for nobody else, nobody waits for the next
                one's. Empty for nothing.
            usable: says whether an answer is what the call is made for; None for any. Another one
                isn't stored, and `stale_if_error` holds for it as for an error.
            max_age: seconds; what is stored and older isn't given before it was validated, and
                with less than 0 nothing is.

        Raises:
            UpstreamFault: as for `Caller.call`.
        """


def uncached(call: Callable[..., Awaitable[Answered]]) -> Callable[..., Awaitable[Answered]]:
    """Return a `CachedCaller.call` that stores nothing."""

    def made(
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,
        max_bytes: int | None = None,
        room: Room | None = None,
        identity: str = "",
        stale_if_error: float = 0.0,
        about: Callable[[], Names] | None = None,
        alike: str = "",
        usable: Callable[[Answered], bool] | None = None,
        max_age: float = inf,
    ) -> Awaitable[Answered]:
        del identity, stale_if_error, about, alike, usable, max_age
        return call(
            upstream,
            method,
            target,
            headers=headers,
            body=body,
            timeout=timeout,
            max_bytes=max_bytes,
            room=room,
        )

    return made


class Store(Protocol):
    """Bounded storage of bytes with expiry; lost entries are misses, never errors.

    A store in memory answers at once, a shared one by an awaitable.
    """

    def get(self, key: str) -> bytes | Awaitable[bytes | None] | None:
        """Return the value, or None if it is absent or expired."""

    def set(self, key: str, value: bytes, ttl: float) -> Awaitable[None] | None:
        """Keep a value for `ttl` seconds at most."""

    def delete(self, key: str) -> Awaitable[None] | None:
        """Forget a value."""


class Objects(Protocol):
    """Bounded storage of objects in this process; what is let go is a miss, never an error."""

    def get(self, key: Hashable) -> Any | None:
        """Return the object, or None if there is none."""

    def put(self, key: Hashable, value: object, cost: int) -> None:
        """Keep an object, which takes about so many bytes."""

    def drop(self, key: Hashable) -> None:
        """Forget an object."""


class NoObjects:
    """Keeps nothing."""

    def get(self, key: Hashable) -> Any | None:
        """Return None."""
        del key
        return None

    def put(self, key: Hashable, value: object, cost: int) -> None:
        """Let it go."""

    def drop(self, key: Hashable) -> None:
        """Have nothing to forget."""


class Fetcher(Protocol):
    """HTTP to places that are no upstreams: key sets, discovery documents, introspection."""

    async def fetch(
        self,
        url: str,
        *,
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (("accept", "application/json"),),
        body: bytes = b"",
        shared_for: float = 0.0,
        sound: Callable[[bytes], object] | None = None,
    ) -> Answered:
        """Ask without following redirects.

        Args:
            url: of a document.
            seconds: for all of it.
            max_bytes: the largest body that is read.
            method: for example `GET`.
            headers: pairs, in order.
            body: bytes; empty for none.
            shared_for: seconds for which an answer, or a failure, is every worker's; see
                `Answered.age`.
            sound: says whether a body is what it must be; what isn't is given, and not kept.

        Raises:
            UpstreamFault: no usable answer.
        """

    def kept(self, url: str) -> Answered | None:
        """Return the last good answer that any worker got by a fetch that was shared."""


class Log(Protocol):
    """The service's log: one line per event, JSON on the wire."""

    def info(self, event: str, **fields: object) -> None:
        """Record something normal."""

    def warning(self, event: str, **fields: object) -> None:
        """Record something an operator should look at."""

    def error(self, event: str, **fields: object) -> None:
        """Record a failure."""


class Revocations(Protocol):
    """What was revoked, on every worker."""

    def hold(self, principal: Principal) -> bool:
        """Say whether a credential that was otherwise good is revoked."""


class _NothingRevoked:
    def hold(self, principal: Principal) -> bool:
        """Say no."""
        del principal
        return False


@dataclass(frozen=True, slots=True)
class Services:
    """What a plugin gets in `on_start`.

    Attributes:
        call: make a call to an upstream, see `Caller.call`.
        cached: make a call through the cache, see `CachedCaller.call`.
        store: shared or embedded storage.
        clock: time.
        log: the service's log.
        metrics: counters and histograms.
        fetch: HTTP to places that are no upstreams.
        spawn: run a coroutine in the background until the version is dropped.
        revocations: credentials that are no longer good.
        lasting: exchanges that go on after they were judged.
        objects: storage of objects in this process, for all versions.
        replicas: stored responses that replicas share; None where there is one store for each.
        others: tell the gateway's other workers what is void or stale; None where there are none.
    """

    call: Callable[..., Awaitable[Answered]]
    cached: Callable[..., Awaitable[Answered]]
    store: Store
    clock: Clock
    log: Log
    metrics: Observer
    fetch: Fetcher
    spawn: Callable[[Awaitable[None]], None]
    revocations: Revocations = field(default_factory=_NothingRevoked)
    lasting: Lasting = field(default_factory=lambda: Lasting(_NothingRevoked().hold))
    objects: Objects = field(default_factory=NoObjects)
    replicas: Replicas | None = None
    others: Callable[[Sequence[SharedMark]], None] | None = None
    _shared: dict[Any, Any] = field(default_factory=dict)

    def shared(self, kind: Callable[[Services], T]) -> T:
        """Return the one instance of a class that all plugins of this worker share.

        It lives as long as the worker, over all versions; the first who asks has it made.

        Args:
            kind: the class, made of the services.
        """
        found: T | None = self._shared.get(kind)
        if found is None:
            found = self._shared[kind] = kind(self)
        return found
