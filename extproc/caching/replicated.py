"""Stored responses behind those of this worker: what all replicas share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from extproc.caching import codec
from extproc.caching.keys import name_of
from extproc.caching.marks import ALL, MOST, Mark, Marks, Verdict
from extproc.caching.selecting import Selecting, normal, selected
from extproc.core.replicas import SharedMark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from extproc.caching.entry import Entry
    from extproc.caching.keys import type_of_key
    from extproc.core.headers import Headers
    from extproc.core.ports import Clock, Names
    from extproc.core.replicas import Replicas

_LARGEST = 8 << 20
_WHILE_VALID = 3600.0  # seconds past all windows that what has a validator is kept
_PASS = "pass"  # noqa: S105 - no password
MINE = "mine"

Place = tuple["type_of_key", Selecting]
_FIRST_PAUSE = 0.01  # between two looks, while another replica asks the upstream
_LONGEST_PAUSE = 0.1

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Sought(Generic[Found]):
    """What came of looking among what replicas share.

    Attributes:
        answer: made of what was found; None if nothing of use was.
        lease: who is to ask the upstream then; see `Looked.lease`.
        waited: another replica asked, and this one waited for it.
    """

    answer: Found | None
    lease: str
    waited: bool


class Replicated:
    """Reads and writes stored responses that other replicas read and write too.

    Args:
        replicas: where they are.
        local: the marks of this worker, which learn what others mark.
    """

    def __init__(self, replicas: Replicas, local: Marks) -> None:
        self._replicas = replicas
        self._local = local
        self._marks = Marks()  # by the sequence that all replicas share
        # Made here, and not yet among those of all replicas: they hold for all that is read.
        self._own: list[Mark] = []
        replicas.follow(self._heard, self._lost)

    @property
    def trusted(self) -> bool:
        """Say whether what is stored may be given: no mark of others is missing."""
        return self._replicas.trusted

    @property
    def sequence(self) -> int:
        """Return the newest mark of all replicas that is known here."""
        return self._replicas.sequence

    @property
    def generation(self) -> str:
        """Return which set of data those marks are counted in."""
        return self._replicas.generation

    def _heard(self, marks: Sequence[SharedMark], floor: int) -> None:
        self._marks.raise_floor(floor)
        for shared in marks:
            mark = Mark(shared.kind, shared.name, shared.soft)
            self._marks.add_at(mark, shared.sequence)
            if not shared.own:
                self._local.add(mark)
            elif mark in self._own:
                self._own.remove(mark)

    def _lost(self, unsaid: Sequence[SharedMark]) -> None:
        self._marks = Marks()
        # What was said comes back as somebody's or is gone with what it meant: it would never be
        # known to be among those of all replicas, and hold for all that is ever read.
        self._own = [Mark(shared.kind, shared.name, shared.soft) for shared in unsaid]
        self._local.clear()

    async def look(
        self,
        key: type_of_key,
        headers: Headers,
        now: float,
        lease: str = "",
        about: Callable[[], Names] | None = None,
    ) -> tuple[Entry | None, str]:
        """Return what is stored, and who is to ask the upstream if nothing is.

        Args:
            key: of the request.
            headers: of the request.
            now: seconds since the epoch.
            lease: by which this worker would ask the upstream; empty for none.
            about: gives the names of what it is wanted for, where it has others than the response.
        """
        name, since = name_of(key), self._local.sequence
        looked = await self._replicas.look(name, _fields(headers), lease=lease)
        if looked.data is None:
            return None, looked.lease
        found = self._usable(looked.data, name, headers, now, since, about() if about else ())
        if found is None and lease:
            return None, await self._replicas.lease(lease)
        return found, looked.lease

    def _usable(
        self, data: bytes, name: str, headers: Headers, now: float, since: int, about: Names
    ) -> Entry | None:
        """Return what was stored under a name, if it is for this request and not void."""
        entry = codec.read(data, name, _LARGEST)
        if entry is None:
            self._replicas.drop(name)
            return None
        # What was found under a name is held against the request itself.
        if not selected(entry.selecting, headers):
            return None
        verdict = self._judge(entry, about)
        if verdict is Verdict.VOID:
            return None
        found = replace(entry, remote=entry.stamp, stamp=since, seen=since)
        if verdict is Verdict.STALE:
            found.soften(now)
        return found

    async def seek(
        self,
        place: Place,
        headers: Headers,
        clock: Clock,
        ends: float,
        use: Callable[[Entry, bool], Found | None],
        *,
        leads: bool,
        about: Callable[[], Names] | None = None,
    ) -> Sought[Found]:
        """Look, and look again for as long as another replica asks the upstream.

        Who finds nothing of use after such a wait goes too: nobody queues.

        Args:
            place: of the request.
            headers: of the request.
            clock: of this worker.
            ends: until when, by the monotonic clock.
            use: makes an answer of what is stored, or None if it can't be used; it is told
                whether there was a wait before.
            leads: whether this worker would ask the upstream for others too.
            about: as for `look`.
        """
        pause, waited = _FIRST_PAUSE, False
        wanted = lease_of(place) if leads else ""
        while True:
            found, lease = await self.look(place[0], headers, clock.now(), wanted, about)
            if found is not None:
                answer = use(found, waited)
                if answer is not None:
                    return Sought(answer, "", waited)
                if waited:
                    return Sought(None, "", waited)
                if leads:
                    lease = await self._replicas.lease(wanted)
            left = ends - clock.monotonic()
            if lease in {"", MINE} or passes(lease) or left <= 0:
                return Sought(None, lease, waited)
            waited = True
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _judge(self, entry: Entry, about: Names) -> Verdict:
        # Of the marks since it was asked for some may have been lost with the rest.
        if entry.generation != self.generation:
            return Verdict.VOID
        verdict = self._marks.judge(entry, about)
        for mark in self._own if verdict is not Verdict.VOID else ():
            if mark.means(entry) or (mark.kind, mark.name) in about:
                verdict = Verdict.STALE if mark.soft else Verdict.VOID
                if verdict is Verdict.VOID:
                    break
        return verdict

    async def lease(self, place: Place) -> str:
        """Ask to be the one who asks the upstream."""
        return await self._replicas.lease(lease_of(place))

    def release(self, place: Place, *, unshared: bool) -> None:
        """Give a lease back."""
        self._replicas.release(lease_of(place), unshared=unshared)

    def keep(self, key: type_of_key, entry: Entry, now: float, at_least: float = 0.0) -> None:
        """Store a response for as long as it can be of use.

        Args:
            key: of the request.
            entry: the response.
            now: seconds since the epoch.
            at_least: as for `Responses.keep`.
        """
        if entry.part is not None or entry.generation != self.generation:
            return
        name = name_of(key)
        stands_in = entry.if_error if entry.never_stale else max(entry.if_error, at_least)
        left = entry.fresh_until - now + max(entry.while_revalidate, stands_in)
        if entry.etag or entry.modified:
            left += _WHILE_VALID
        self._replicas.keep(name, entry.selecting, codec.written(entry, name), left)

    def drop(self, key: type_of_key) -> None:
        """Forget a response."""
        self._replicas.drop(name_of(key))

    def mark(self, marks: Iterable[Mark]) -> None:
        """Tell other replicas what is void or stale."""
        marks = list(marks)
        self._own += marks
        if len(self._own) > MOST:
            self._own = marks = [Mark(ALL)]
        self._replicas.mark([SharedMark(mark.kind, mark.name, mark.soft) for mark in marks])

    async def told(self, seconds: float) -> bool:
        """Wait until others can hear all that was marked here; see `Replicas.told`."""
        return await self._replicas.told(seconds)


def lease_of(place: Place) -> str:
    """Return the name of a lease: variants of one key don't wait for each other."""
    key, selecting = place
    return name_of(key) if not selecting else name_of((*key, *map(str, selecting)))


def passes(lease: str) -> bool:
    """Say whether a lease says that what comes can't be shared."""
    return lease == _PASS


def _fields(headers: Headers) -> list[tuple[str, str]]:
    """Return the fields by which a variant may be selected, in their normal form."""
    return [(name, normal(name, value) or "") for name, value in headers.joined().items()]
