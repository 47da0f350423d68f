"""The stored responses of one worker, over all routes and versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from extproc.caching import ranges, reuse
from extproc.caching.asking import NOTHING
from extproc.caching.flights import Flights
from extproc.caching.keys import size
from extproc.caching.marks import Marks, Verdict
from extproc.caching.replicated import Place, Replicated
from extproc.caching.reuse import Use
from extproc.caching.selecting import selected, selects
from extproc.core.replicas import SharedMark

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from extproc.caching.entry import Entry
    from extproc.caching.keys import type_of_key
    from extproc.caching.making import Stamp
    from extproc.caching.marks import Mark
    from extproc.core.headers import Headers
    from extproc.core.ports import Names, Services

MOST_VARIANTS = 32


class Responses:
    """Finds, keeps and lets go of stored responses.

    Attributes:
        marks: what was invalidated or purged.
        flights: requests under way that others may wait for.
    """

    def __init__(self, services: Services) -> None:
        self.objects = services.objects
        self.marks = Marks()
        self.flights = Flights()
        self._about: tuple[Callable[[], Names] | None, int, tuple[int, int]] = (None, 0, (0, 0))
        self._clock = services.clock
        replicas = services.replicas
        self.shared = Replicated(replicas, self.marks) if replicas is not None else None
        # Where replicas share what is stored, other workers hear from them.
        self._others = services.others if replicas is None else None

    def select(
        self, key: type_of_key, headers: Headers, about: Callable[[], Names] | None = None
    ) -> tuple[Entry | None, str]:
        """Return the stored response that a request selects, the newest first (section 4.1).

        Args:
            key: of the request.
            headers: of the request, as they were when it came.
            about: gives the names of what it is wanted for, where it has others than the response.

        Returns:
            The response, or None and why there is none: `uri-miss` or `vary-miss`.
        """
        variants: tuple[Entry, ...] | None = self.objects.get(key)
        if variants is None or not self.trusted:
            return None, "uri-miss"
        read: dict[str, str | None] = {}
        for entry in variants:
            if selected(entry.selecting, headers, read) and self._good(key, entry, about):
                return entry, ""
        return None, "vary-miss" if self.objects.get(key) is not None else "uri-miss"

    @property
    def trusted(self) -> bool:
        """Say whether what is stored may be given: no mark of other replicas is missing."""
        return self.shared is None or self.shared.trusted

    @property
    def stamp(self) -> Stamp:
        """Return the newest marks, of this worker and of all replicas."""
        shared = self.shared
        if shared is None:
            return self.marks.sequence, 0, ""
        return self.marks.sequence, shared.sequence, shared.generation

    def _good(
        self, key: type_of_key, entry: Entry, about: Callable[[], Names] | None = None
    ) -> bool:
        if about is not None and entry.stamp != self.marks.sequence:
            void, stale = self._marked(about)
            if void > entry.stamp:
                self._let_go(key, entry)
                return False
            if stale > entry.stamp:
                entry.soften(self._clock.now())
        if entry.seen == self.marks.sequence:
            return True
        verdict = self.marks.judge(entry)
        if verdict is Verdict.VOID:
            self._let_go(key, entry)
            return False
        if verdict is Verdict.STALE:
            entry.soften(self._clock.now())
        return True

    def _marked(self, about: Callable[[], Names]) -> tuple[int, int]:
        """Return the newest marks, void and stale, of what responses are wanted for.

        Many are wanted for one, one after the other; so the last one's are remembered.
        """
        known, sequence, found = self._about
        if known is not about or sequence != self.marks.sequence:
            names = about()
            found = self.marks.newest(names, soft=False), self.marks.newest(names, soft=True)
            self._about = about, self.marks.sequence, found
        return found

    def varying(self, key: type_of_key) -> tuple[str, ...]:
        """Return the request fields that selected the newest stored response of a key."""
        variants: tuple[Entry, ...] | None = self.objects.get(key)
        return tuple([name for name, _ in variants[0].selecting]) if variants else ()

    def keep(
        self,
        key: type_of_key,
        entry: Entry,
        *,
        instead: Entry | None = None,
        at_least: float = 0.0,
    ) -> None:
        """Store a response in place of the one that the same requests select.

        Args:
            key: of the request.
            entry: the response.
            instead: the state it had before; other requests may have selected that.
            at_least: seconds past its lifetime for which it may stand in for an error, where it
                allows less itself.
        """
        if instead is not None and instead.selecting != entry.selecting:
            self.drop(key, instead)
        self.take(key, entry)
        if self.shared is not None:
            self.shared.keep(key, entry, self._clock.now(), at_least)

    def came(self, key: type_of_key, headers: Headers, entry: Entry, kind: Hashable = None) -> None:
        """Remember whether others can use what was stored for a request without asking again."""
        place = self.place(key, headers)
        if reuse.use(entry, NOTHING, self._clock.now()) is Use.VALIDATE:
            self.flights.unshared(place, stored=True, kind=kind)
        else:
            self.flights.shared(place, kind=kind)

    def place(self, key: type_of_key, headers: Headers) -> Place:
        """Return what requests have in common that may wait for each other: key and variant."""
        return key, selects(self.varying(key), headers)

    def take(self, key: type_of_key, entry: Entry) -> None:
        """Store a response in this worker."""
        variants: tuple[Entry, ...] = self.objects.get(key) or ()
        others = [one for one in variants if one.selecting != entry.selecting]
        if entry.part is not None:
            before = [one for one in variants if one.selecting == entry.selecting]
            if before and before[0].part is None:
                return  # a part is less than the whole that is there
            entry = _completed(before[0], entry) if before else entry
        self._put(key, (entry, *others[: MOST_VARIANTS - 1]))

    def drop(self, key: type_of_key, entry: Entry) -> None:
        """Let a stored response go."""
        if self.shared is not None:
            self.shared.drop(key)
        self._let_go(key, entry)

    def _let_go(self, key: type_of_key, entry: Entry) -> None:
        """Let one go in this worker alone: what is void here others may have asked for anew."""
        variants: tuple[Entry, ...] = self.objects.get(key) or ()
        self._put(key, tuple([one for one in variants if one is not entry]))

    def _put(self, key: type_of_key, variants: tuple[Entry, ...]) -> None:
        if variants:
            # The key has a text of the client's too, as long as that likes.
            self.objects.put(key, variants, size(key) + sum([entry.cost for entry in variants]))
        else:
            self.objects.drop(key)

    def mark(self, marks: Sequence[Mark], *, told: bool = False) -> None:
        """Make stored responses void or stale.

        Args:
            marks: what is.
            told: other workers and replicas know it from elsewhere.
        """
        for mark in marks:
            self.marks.add(mark)
        if not marks or told:
            return
        if self.shared is not None:
            self.shared.mark(marks)
        elif self._others is not None:
            self._others([SharedMark(mark.kind, mark.name, mark.soft) for mark in marks])


def _completed(before: Entry, entry: Entry) -> Entry:
    """Put a new part to the one that is there (RFC 9111 section 3.4), if they fit."""
    found = ranges.joined(before, entry)
    if found is None:
        return entry
    body, (first, last, length) = found
    others = [pair for pair in entry.headers if pair[0] != "content-range"]
    if last - first + 1 == length:
        return replace(entry, status=200, headers=tuple(others), body=body, part=None)
    headers = (*others, ("content-range", f"bytes {first}-{last}/{length}"))
    return replace(entry, headers=headers, body=body, part=(first, last, length))
