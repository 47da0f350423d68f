"""Validating what is stored while it is given stale (RFC 5861 section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.caching import validating
from extproc.caching.behind import Behind
from extproc.caching.keeping import Keeper
from extproc.caching.passage import Passage
from extproc.caching.replicated import MINE
from extproc.core.errors import UpstreamFault
from extproc.core.ports import Services

if TYPE_CHECKING:
    from extproc.caching.entry import Entry
    from extproc.caching.flights import Flight
    from extproc.core.values import Request


@dataclass(frozen=True, slots=True)
class Revalidator:
    """Asks the upstream in the background; for each stored response one at a time.

    Attributes:
        services: of the cache.
        keeper: stores what comes.
        behind: what lies between the cache and the upstream.
    """

    services: Services
    keeper: Keeper
    behind: Behind

    def begin(self, request: Request, passage: Passage, entry: Entry) -> None:
        """Begin, unless somebody does already."""
        flights, place = self.keeper.responses.flights, (passage.key, entry.selecting, "stale")
        if flights.joined(place) is None:
            self.services.spawn(self._run(request, passage, entry, flights.begin(place)))

    async def _run(self, request: Request, passage: Passage, entry: Entry, flight: Flight) -> None:
        again = Passage(passage.headers)
        again.key, again.why = passage.key, "stale"
        again.stamp, again.sent = self.keeper.responses.stamp, self.services.clock.now()
        outcome = "revalidation-failed"
        try:
            if await self._leads(passage):
                found = validating.conditions_for(entry)
                response = await self.behind.ask(self.services, request, passage.headers, found)
                outcome = self.keeper.answered(request, again, entry, response)
        except UpstreamFault:
            return
        finally:
            self.keeper.responses.flights.end(flight)
            self._lets(passage)
            self.services.metrics.count("extproc_cache_total", (request.route, outcome))

    async def _leads(self, passage: Passage) -> bool:
        """Say whether no other replica asks already."""
        shared = self.keeper.responses.shared
        return shared is None or await shared.lease(((*passage.key, "stale"), ())) in {"", MINE}

    def _lets(self, passage: Passage) -> None:
        shared = self.keeper.responses.shared
        if shared is not None:
            shared.release(((*passage.key, "stale"), ()), unshared=False)
