"""An issuer's keys: from a file, or over HTTP with a cooldown, last good keys through outages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import orjson

from extproc.authentication.keys import KeySet, NotAKeySet
from extproc.core.errors import UpstreamFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.core.ports import Services

_OK = 200
_SECONDS = 5.0
_MOST_BYTES = 1 << 20
_LOOK_EVERY = 0.5  # seconds
_SAME = 0.1  # seconds between two readings of two clocks, at most

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often keys are fetched, seconds.

    Attributes:
        refresh: keys this old are fetched again, in the background.
        cooldown: at least this long between two fetches, whatever tokens say.
        max_stale: keys this old are no longer used.
    """

    refresh: float = 300.0
    cooldown: float = 10.0
    max_stale: float = 86_400.0


class KeySource:
    """The keys of one issuer."""

    def __init__(self, issuer: str, location: str, *, discovery: bool, pace: Pace) -> None:
        self._issuer = issuer
        self._location = location
        self._discovery = discovery
        self._pace = pace
        self._services: Services | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._looked = float("-inf")
        self.problem = "not fetched yet"
        self.keys: KeySet | None = None

    @classmethod
    def fixed(cls, issuer: str, keys: KeySet) -> KeySource:
        """Return a source whose keys came with the gateway file."""
        source = cls(issuer, "", discovery=False, pace=Pace())
        source.keys, source.problem = keys, ""
        return source

    @property
    def is_fetched(self) -> bool:
        """Say whether keys come from somewhere else than the gateway file."""
        return bool(self._location)

    def start(self, services: Services) -> None:
        """Begin to fetch; doesn't wait."""
        self._services = services
        if self._location:
            self._take_over(services)
            self._fetch()

    def _take_over(self, services: Services) -> None:
        """Use keys that were fetched here before, or by another worker, if they are newer.

        Without them a reload, or a worker that takes another's place, would refuse every token
        while the issuer is away; and one that has just asked in vain, or for a key that nobody
        had yet, would go on refusing what the other workers accept.
        """
        kept = services.fetch.kept(self._location)
        try:
            if kept is not None and self._discovery:
                kept = services.fetch.kept(_jwks_uri(kept.body, self._issuer))
            if kept is None:
                return
            fetched = services.clock.monotonic() - kept.age
            if fetched > self._fetched + _SAME:
                self.keys = KeySet.read(kept.body)
                self._fetched, self.problem = fetched, ""
        except NotAKeySet as error:
            self.problem = str(error)

    def current(self, now: float) -> KeySet | None:
        """Return the keys to use at a monotonic time; fetches ahead of need in the background."""
        if not self._location or self.keys is None:
            return self.keys
        age = now - self._fetched
        if age > self._pace.refresh and now - self._tried > self._pace.cooldown:
            self._fetch()
        return self.keys if age <= self._pace.max_stale else None

    async def refreshed(self, now: float) -> KeySet | None:
        """Fetch because a key is missing; within the cooldown see what other workers have."""
        if self._location and now - self._tried > self._pace.cooldown:
            self._fetch()
        elif self._services is not None and self._location and now - self._looked > _LOOK_EVERY:
            self._looked = now
            self._take_over(self._services)
        if self._fetching is not None:
            await asyncio.shield(self._fetching)
        return self.keys if not self._location or self._age() <= self._pace.max_stale else None

    def _age(self) -> float:
        now = self._services.clock.monotonic() if self._services is not None else 0.0
        return now - self._fetched

    def _fetch(self) -> None:
        """Start one fetch; there is never a second in flight."""
        if self._services is None or self._fetching is not None:
            return
        self._tried = self._services.clock.monotonic()
        self._fetching = asyncio.ensure_future(self._load(self._services))
        self._fetching.add_done_callback(self._done)

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _load(self, services: Services) -> None:
        try:
            self.keys, age = await self._found(services)
        except (UpstreamFault, NotAKeySet) as error:
            self.problem = str(error)
            services.log.warning("keys not fetched", issuer=self._issuer, error=str(error))
            services.metrics.count("extproc_key_fetches_total", ("failed",))
        else:
            # What another worker got counts from when it got it.
            self._fetched = services.clock.monotonic() - age
            self._tried = min(self._tried, self._fetched)
            self.problem = ""
            services.metrics.count("extproc_key_fetches_total", ("ok",))

    async def _found(self, services: Services) -> tuple[KeySet, float]:
        """Return the key set, and how old it is, seconds."""
        location = self._location
        if self._discovery:
            issuer = self._issuer
            location, _ = await self._got(services, location, lambda it: _jwks_uri(it, issuer))
        return await self._got(services, location, KeySet.read)

    async def _got(
        self, services: Services, url: str, read: Callable[[bytes], Read]
    ) -> tuple[Read, float]:
        """Fetch; only what can be read replaces what was good before.

        Returns:
            What was read, and how old that is, seconds.

        Raises:
            UpstreamFault: there is no answer.
            NotAKeySet: it can't be read.
        """
        found: list[Read] = []

        def sound(body: bytes) -> bool:
            with suppress(NotAKeySet):
                found.append(read(body))
            return bool(found)

        answer = await services.fetch.fetch(
            url,
            seconds=_SECONDS,
            max_bytes=_MOST_BYTES,
            shared_for=self._pace.cooldown,
            sound=sound,
        )
        if answer.status != _OK:
            raise UpstreamFault("protocol", f"{url} answered {answer.status}")
        # Nobody asks whether it is sound where another worker got it.
        return (found or [read(answer.body)])[0], answer.age


def discovery_url(issuer: str) -> str:
    """Return where an issuer's metadata is (OpenID Connect Discovery 1.0 section 4)."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def _jwks_uri(metadata: bytes, issuer: str) -> str:
    """Read the key set's address; the document must be this issuer's own (section 4.3)."""
    try:
        document = orjson.loads(metadata)
        uri, named = document["jwks_uri"], document["issuer"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise NotAKeySet("the discovery document names no jwks_uri") from error
    if named != issuer or not isinstance(uri, str):
        raise NotAKeySet("the discovery document is another issuer's")
    if urlsplit(issuer).scheme == "https" and urlsplit(uri).scheme != "https":
        raise NotAKeySet("the discovery document leads from https to something else")
    return uri
