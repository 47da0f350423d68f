"""Calls through the cache: the port by which other features reuse stored answers."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from extproc.caching import composing, making, reuse, storing, validating
from extproc.caching.changes import SAFE, called
from extproc.caching.control import TARGETS
from extproc.caching.freshness import initial_age
from extproc.caching.keys import digest
from extproc.caching.policy import Policy
from extproc.caching.replicated import MINE, Place, passes
from extproc.caching.responses import Responses
from extproc.caching.reuse import Use
from extproc.caching.wanted import Wanted
from extproc.core.answered import Answered
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from extproc.caching.entry import Entry
    from extproc.caching.flights import Flight
    from extproc.caching.making import Stamp
    from extproc.core.ports import Names, Services
    from extproc.core.room import Room

_NOT_MODIFIED = 304
_LONGEST_WAIT = 5.0
_LARGEST = 1 << 20
# Without any of these a response has no lifetime, and nothing it could be validated by.
_LASTING = ("cache-control", "expires", "last-modified", "etag", *TARGETS)
# Nor does it say anything of its reuse without any of these.
_TELLING = ("etag", *composing.SAYING)
_POLICY = Policy(largest=_LARGEST)


class CachedCalls:
    """Makes calls under the rules of a shared cache (RFC 9111); see `CachedCaller`.

    GET alone is stored. A key is upstream, target and identity, so no answer is given to another
    identity; Vary selects among the headers of the call.

    Args:
        services: by which calls are made and stored.
        origins: of each upstream, what tells it from others that have its name: before a reload, or
            in another gateway with the same Redis.
    """

    def __init__(self, services: Services, origins: Mapping[str, str] | None = None) -> None:
        self._services = services
        self._origins = {name: digest(text) for name, text in (origins or {}).items()}
        self._responses = services.shared(Responses)
        self._call = services.call
        self._now = services.clock.now
        self._monotonic = services.clock.monotonic

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
        """Make one call, or give what is stored of an equal one; see `CachedCaller.call`.

        Raises:
            UpstreamFault: no usable answer.
        """
        if method != "GET" or body:
            made = self._call(
                upstream,
                method,
                target,
                headers=headers,
                body=body,
                timeout=timeout,
                max_bytes=max_bytes,
                room=room,
            )
            if method in SAFE:
                return _through(made, self._told(self._now()))
            return self._changing(made, upstream, method, target)
        origin = self._origins.get(upstream, "")
        key = ("call", upstream, origin, target, digest(identity) if identity else "")
        wanted = Wanted(
            key,
            upstream,
            target,
            headers,
            timeout,
            max_bytes,
            room,
            stale_if_error,
            about,
            (upstream, alike) if alike else None,
            usable,
            max_age,
        )
        if not self._responses.flights.passes_bare((key, ())):
            return self._answered(wanted)
        made = self._call(
            upstream,
            method,
            target,
            headers=headers,
            timeout=timeout,
            max_bytes=max_bytes,
            room=room,
        )
        return _through(made, _Passing(self, wanted, self._now(), self._responses.stamp))

    def _changing(
        self, made: Awaitable[Answered], upstream: str, method: str, target: str
    ) -> Awaitable[Answered]:
        """Make void what an unsafe call changes (RFC 9111 section 4.4)."""

        def changed(answer: Answered) -> Answered:
            self._responses.mark(called(upstream, method, target, answer))
            return answer

        return _through(made, changed)

    def _told(self, sent: float) -> Callable[[Answered], Answered]:
        """Return what says how an answer that isn't stored may be reused."""

        def told(answer: Answered) -> Answered:
            self.tell(answer, sent)
            return answer

        return told

    def tell(self, answer: Answered, sent: float) -> None:
        """Say of an answer that came just now how it may be reused."""
        headers, now = answer.headers, self._now()
        answer.reuse = composing.reuse(answer.status, headers, now)
        answer.old = initial_age(headers, sent, now)

    async def _answered(self, wanted: Wanted) -> Answered:
        flights = self._responses.flights
        waited, gave_up = "", not self._responses.trusted
        began = self._monotonic()
        if wanted.timeout is not None:
            wanted.until = began + wanted.timeout
        ends = began + min(wanted.timeout or _LONGEST_WAIT, _LONGEST_WAIT)
        while True:
            entry = self._responses.select(wanted.key, wanted.headers, wanted.about)[0]
            found = self._stored(wanted, entry, waited)
            if found is not None:
                return found
            if wanted.asked.no_cache:  # nor will another's answer do that was asked for before
                return await self._made(wanted, entry)
            place = self._place(wanted)
            if gave_up or flights.passes(place) or (entry is None and flights.barren(wanted.kind)):
                return await self._made(wanted, entry)
            flight = flights.joined(place)
            if flight is None:
                return await self._flown(wanted, entry, ends, flights.begin(place))
            left = ends - self._monotonic()
            gave_up = left <= 0 or not await flight.is_lost(left)
            waited = "collapsed"

    async def _flown(
        self, wanted: Wanted, entry: Entry | None, ends: float, flight: Flight
    ) -> Answered:
        """Make the call for all who wait; a call that is given up brings no answer."""
        end = self._responses.flights.end
        try:
            answer = await self._led(wanted, entry, ends)
        except UpstreamFault:
            end(flight)
            raise
        except BaseException:
            end(flight, lost=True)
            raise
        end(flight)
        return answer

    async def _led(self, wanted: Wanted, entry: Entry | None, ends: float) -> Answered:
        """Make the call, unless replicas have its answer or one of them makes it."""
        shared = self._responses.shared
        if shared is None or not shared.trusted:
            return await self._made(wanted, entry)
        found = entry

        def use(stored: Entry, waited: bool) -> Answered | None:  # noqa: FBT001 - as `seek` says
            nonlocal found
            found = stored
            self._responses.take(wanted.key, stored)
            return self._stored(wanted, stored, "collapsed" if waited else "")

        place = self._place(wanted)
        sought = await shared.seek(
            place,
            wanted.headers,
            self._services.clock,
            ends,
            use,
            leads=True,
            about=wanted.about,
        )
        if sought.answer is not None:
            return sought.answer
        flights, ended = self._responses.flights, False
        if passes(sought.lease):
            flights.unshared(place, stored=found is not None)
        try:
            answer = await self._made(wanted, found)
            ended = True
            return answer
        finally:
            if sought.lease == MINE:
                # Those who wait for this one needn't, the next time, if nothing came of it.
                unshared = ended and flights.passes(self._place(wanted))
                shared.release(place, unshared=unshared)

    def _place(self, wanted: Wanted) -> Place:
        return self._responses.place(wanted.key, wanted.headers)

    def _stored(self, wanted: Wanted, entry: Entry | None, waited: str) -> Answered | None:
        """Return what is stored, if it may be given without a call."""
        if entry is None:
            return None
        now = self._now()
        use = reuse.use(entry, wanted.asked, now)
        if use is Use.FRESH:
            return _given(entry, now, waited or "hit")
        if use is Use.REVALIDATE:
            key = (wanted.key, "revalidate")
            if self._responses.flights.joined(key) is None:
                flight = self._responses.flights.begin(key)
                self._services.spawn(self._revalidated(wanted, entry, flight))
            return _given(entry, now, "stale", stale=True)
        return None

    async def _revalidated(self, wanted: Wanted, entry: Entry, flight: Flight) -> None:
        wanted.until = wanted.room = None  # nobody waits
        try:
            await self._made(wanted, entry)
        except UpstreamFault:
            return
        finally:
            self._responses.flights.end(flight)

    async def _made(self, wanted: Wanted, entry: Entry | None) -> Answered:
        """Make the call, and store its answer; validate what is stored, if something is."""
        stamp, sent = self._responses.stamp, self._now()
        conditions = validating.conditions_for(entry) if entry is not None else []
        try:
            answer = await self._sent(wanted, conditions)
        except UpstreamFault:
            stands = self._instead(wanted, entry)
            if stands is None:
                raise
            return stands
        if entry is not None:
            usable = wanted.is_usable(answer)
            stands = None
            if not usable or answer.status in validating.ERRORS:
                stands = self._instead(wanted, entry)
            if stands is not None:
                return stands
            if not usable:
                return self.passed(answer, wanted, sent)
        if answer.status == _NOT_MODIFIED and entry is not None and conditions:
            if validating.confirms(answer.headers, entry):
                return self._confirmed(wanted, entry, answer, sent, stamp)
            return _given(entry, self._now(), "hit")
        return self.kept(wanted, answer, sent, stamp, entry)

    async def _sent(self, wanted: Wanted, conditions: list[tuple[str, str]]) -> Answered:
        timeout = wanted.left(self._monotonic())
        return await self._call(
            wanted.upstream,
            "GET",
            wanted.target,
            headers=[*wanted.headers.items(), *conditions],
            timeout=timeout,
            max_bytes=wanted.max_bytes,
            room=wanted.room,
        )

    def _instead(self, wanted: Wanted, entry: Entry | None) -> Answered | None:
        """Return what may stand in for a failure."""
        if entry is None:
            return None
        now = self._now()
        allowed = reuse.stands_in(entry, wanted.asked, now, wanted.stale_if_error)
        return _given(entry, now, "stale", stale=True) if allowed else None

    def _confirmed(
        self, wanted: Wanted, entry: Entry, answer: Answered, sent: float, stamp: Stamp
    ) -> Answered:
        now = self._now()
        pairs = validating.freshened(entry.headers, answer.headers)
        headers = Headers(pairs)
        kept = storing.kept(storing.Asked(), entry.status, headers, _POLICY, now)
        if kept.why_not:
            self._responses.drop(wanted.key, entry)
            return self.passed(Answered(entry.status, headers, entry.body), wanted, sent)
        fresh = making.refreshed(
            entry, headers, kept, pairs, wanted.headers, sent=sent, now=now, stamp=stamp
        )
        self._responses.keep(wanted.key, fresh, instead=entry, at_least=wanted.stale_if_error)
        self._responses.came(wanted.key, wanted.headers, fresh)
        return _given(fresh, now, "hit")

    def kept(
        self,
        wanted: Wanted,
        answer: Answered,
        sent: float,
        stamp: Stamp,
        before: Entry | None = None,
    ) -> Answered:
        """Store an answer, or let go what was stored before if it says that it is over."""
        now = self._now()
        kept = storing.kept(storing.Asked(), answer.status, answer.headers, _POLICY, now)
        entry = None
        if before is None and not kept.why_not and not wanted.is_usable(answer):
            return self.passed(answer, wanted, sent)
        if not kept.why_not and answer.status != storing.PARTIAL and len(answer.body) <= _LARGEST:
            entry = making.made(
                answer.status,
                _plain(answer.headers),
                answer.body,
                kept,
                wanted.headers,
                sent=sent,
                now=now,
                uri=wanted.tag,
                tags=(wanted.tag,),
                stamp=stamp,
                largest=_LARGEST,
            )
        if entry is None:
            if storing.is_telling(answer.status):
                if before is not None and not storing.is_less(answer.headers, {}):
                    self._responses.drop(wanted.key, before)
                self._responses.flights.unshared(self._place(wanted), kind=wanted.kind)
            return self.passed(answer, wanted, sent)
        self._responses.keep(wanted.key, entry, at_least=wanted.stale_if_error)
        self._responses.came(wanted.key, wanted.headers, entry, kind=wanted.kind)
        return replace(_given(entry, now, "miss"), headers=answer.headers)

    def passed(self, answer: Answered, wanted: Wanted, sent: float) -> Answered:
        """Name an answer that isn't stored, and read it: what is made of it may be."""
        answer.source, answer.tags = "miss", (wanted.tag,)
        self.tell(answer, sent)
        return answer


def _through(
    made: Awaitable[Answered], look: Callable[[Answered], Answered]
) -> Awaitable[Answered]:
    """Look at an answer before whoever waits for it does."""
    through = getattr(made, "through", None)
    if through is None:
        return _looked_at(made, look)
    through(look)
    return made


async def _looked_at(made: Awaitable[Answered], look: Callable[[Answered], Answered]) -> Answered:
    return look(await made)


class _Passing:
    """Looks at the answer to a call of which the last one's wasn't to be stored."""

    __slots__ = ("_calls", "_sent", "_stamp", "_wanted")

    def __init__(self, calls: CachedCalls, wanted: Wanted, sent: float, stamp: Stamp) -> None:
        self._calls = calls
        self._wanted = wanted
        self._sent = sent
        self._stamp = stamp

    def __call__(self, answer: Answered) -> Answered:
        if not answer.headers.has_any(_TELLING):
            answer.source, answer.tags = "miss", (self._wanted.tag,)
            answer.reuse = composing.SILENT
            return answer
        if answer.headers.has_any(_LASTING):
            return self._calls.kept(self._wanted, answer, self._sent, self._stamp)
        return self._calls.passed(answer, self._wanted, self._sent)


def _plain(headers: Headers) -> Headers:
    """Return headers without what was said of an encoding: a call's body is decoded already."""
    return Headers([pair for pair in headers.items() if pair[0] != "content-encoding"])


def _given(entry: Entry, now: float, source: str, *, stale: bool = False) -> Answered:
    headers = Headers(entry.headers)
    age, said = entry.aged(now), entry.reuse
    if said is None:
        said = entry.reuse = composing.reuse(entry.status, headers, entry.came)
    headers["age"] = str(int(age))
    return Answered(
        entry.status,
        headers,
        entry.body,
        0.0 if entry.validate else max(0.0, entry.fresh_until - now),
        entry.tags,
        stale,
        source,
        reuse=said,
        old=age,
    )
