"""The plugin that answers from stored responses, and stores what passes (RFC 9111)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from extproc.caching import answering, conditions, reuse, storing, unusual, validating
from extproc.caching import status as cache_status
from extproc.caching.asking import NOTHING, asks
from extproc.caching.behind import Behind
from extproc.caching.changes import marks
from extproc.caching.flights import Flight
from extproc.caching.keeping import Keeper
from extproc.caching.passage import Passage
from extproc.caching.policy import Policy
from extproc.caching.replicated import MINE, passes
from extproc.caching.responses import Responses
from extproc.caching.reuse import Use
from extproc.caching.revalidating import Revalidator
from extproc.core.headers import Headers
from extproc.core.plugin import Plugin
from extproc.core.values import Response
from extproc.expressions.conditions import Condition, Context, EvaluationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.caching.entry import Entry
    from extproc.caching.keys import KeyOf, type_of_key
    from extproc.caching.parameters import Parameters
    from extproc.core.ports import Services
    from extproc.core.values import Request
    from extproc.expressions.templates import Template


class Beyond(Enum):
    """What this worker hasn't, replicas may have."""

    LOOK = "look"


WAIT = 5.0
BY_BODY = "cache"  # the name under which a request is handed on until its body is there
_SAFE = ("GET", "HEAD")
_PRECONDITIONS = ("if-match", "if-unmodified-since")
_NOT_MODIFIED = 304
_GATEWAY_TIMEOUT = 504
_NOT_THAT_PART = "content-range"  # a 206 isn't the part that it says it is
# Reasons that say nothing of the next answer to the same request.
_OF_THIS_TIME = frozenset({"request-no-store", "error", "local-reply"})


class Cache(Plugin):
    """Stores responses of its route and answers from them as RFC 9111 allows.

    A request that must go to the upstream goes as soon as that is known; others for the same wait
    for it, if its response may be theirs too. The body is taken in pieces as it passes, so the
    first byte isn't held back; what is too large is let go.

    Attributes:
        key: what makes a difference to a response.
        policy: the route's own rules.
        tags: by which responses can be purged.
        bypass: requests for which any of these holds go past the cache.
        wait: seconds that a request may wait for another's response; 0 for never.
        behind: what lies between the cache and the upstream.
        keyed: the parameters that count in the keys of routes that overlap this one.
        upstream: of the route, where aggregates call that too; empty where none does.
        forwards: the upstream gets a client's Authorization.
        methods: whose responses are stored by their bodies (see `by_body.py`).
    """

    streaming: ClassVar[bool] = True
    watching: ClassVar[bool] = True
    key: KeyOf
    policy: Policy = Policy()
    tags: tuple[Template, ...] = ()
    bypass: tuple[Condition, ...] = ()
    wait: float = WAIT
    behind: Behind = Behind()
    keyed: tuple[Parameters, ...] = (None,)
    upstream: str = ""
    forwards: bool = True
    methods: frozenset[str] = frozenset()

    def on_start(self, services: Services) -> None:
        """Take what is stored, the clock and the metrics."""
        self._services = services
        self._responses = services.shared(Responses)
        self._objects = services.objects
        self._marks = self._responses.marks
        self._now = services.clock.now
        self._keeper = Keeper(
            self._responses, services.clock, self.key, self.policy, self.tags, self.forwards
        )
        self._revalidator = Revalidator(services, self._keeper, self.behind)
        self._special, self._unkeyed = unusual.special(self.key), unusual.unkeyed(self.key)

    def on_request(self, request: Request) -> Response | Awaitable[Response | None] | None:
        """Answer from the store, if what is there may be reused."""
        usual = request.method == "GET" and not request.bodied and not self.bypass
        if usual and not request.headers.has_any(self._special):
            variants = self._objects.get(self.key.of(request))
            if variants is not None:
                entry: Entry = variants[0]
                now = self._now()
                known = entry.seen == self._marks.sequence and self._responses.trusted
                if known and entry.plain and entry.fresh_until > now:
                    return self._hit(request, entry, now)
        return self._looked(request)

    def _hit(self, request: Request, entry: Entry, now: float) -> Response:
        """Answer with what is stored as it is; one answer serves a whole second."""
        response = entry.ready
        second = int(now)
        if response is None or entry.second != second:
            response = answering.whole(entry, now)
            response.encoded = {}
            entry.ready, entry.second = response, second
        self._note(request, "hit")
        return response

    def _looked(self, request: Request) -> Response | Awaitable[Response | None] | None:
        by_body = request.method in self.methods
        why = self._past(request)
        if not why:
            unusual.take_off(request, self._unkeyed)
        passage = Passage(Headers(request.headers.items()), request.method, by_body=by_body)
        request.state.passage, passage.why = passage, why
        if why:
            self._goes(request, passage)
            return None
        if by_body:
            request.metadata[BY_BODY] = passage
            return None
        return self.look(request, passage)

    def look(
        self, request: Request, passage: Passage, more: type_of_key = ()
    ) -> Response | Awaitable[Response | None] | None:
        """Answer from the store, if what is there may be reused.

        Args:
            request: the request.
            passage: of the request.
            more: that belongs to the key.
        """
        passage.asked = asked = asks(request.headers)
        if asked is not NOTHING:  # it holds for what an answer is made of as well
            request.max_age = -1.0 if asked.no_cache else asked.max_age
        passage.key = (*self.key.whole(request), *more)
        outcome = self._attempt(request, passage)
        if isinstance(outcome, Flight):
            return self._waits(request, passage, outcome)
        if outcome is Beyond.LOOK:
            return self._beyond(request, passage)
        return outcome

    def _past(self, request: Request) -> str:
        """Return why a request goes past the cache; empty if it doesn't."""
        if request.method not in self.methods and (request.method not in _SAFE or request.bodied):
            return "method"
        for condition in self.bypass:
            try:
                if condition.holds(Context(request, self._now())):
                    return "bypass"
            except EvaluationFailed:
                continue
        return ""

    async def _waits(self, request: Request, passage: Passage, flight: Flight) -> Response | None:
        """Wait for another's response, then look again; for so long at most."""
        ends = self._services.clock.monotonic() + self.wait
        outcome: Response | Flight | Beyond | None = flight
        while isinstance(outcome, Flight):
            left = ends - self._services.clock.monotonic()
            passage.waited = True
            passage.gave_up = left <= 0 or not await outcome.is_lost(left)
            outcome = self._attempt(request, passage)
        return await self._beyond(request, passage) if outcome is Beyond.LOOK else outcome

    def _shares(self, passage: Passage) -> bool:
        """Say whether replicas may have what this worker hasn't."""
        shared = self._responses.shared
        return shared is not None and shared.trusted and not passage.passing and not passage.gave_up

    async def _beyond(self, request: Request, passage: Passage) -> Response | None:
        """Look at what replicas share; wait while another one asks the upstream."""
        shared = self._responses.shared
        assert shared is not None  # noqa: S101 - the caller looked
        clock = self._services.clock
        sought = await shared.seek(
            passage.place,
            passage.headers,
            clock,
            clock.monotonic() + self.wait,
            lambda found, waited: self._found(request, passage, found, waited=waited),
            leads=passage.flight is not None,
        )
        if sought.answer is not None:
            return sought.answer
        passage.waited |= sought.waited
        passage.leased = sought.lease == MINE
        if passes(sought.lease):
            self._land(passage, unshared=True)
        self._goes(request, passage)
        return None

    def _found(
        self, request: Request, passage: Passage, found: Entry, *, waited: bool
    ) -> Response | None:
        """Take what replicas had; answer with it, if it may be reused."""
        passage.waited |= waited
        self._responses.take(passage.key, found)
        answer, why = self._reused(request, passage, found)
        if answer is None:
            passage.entry, passage.why = found, why
        else:
            self._land(passage)
        return answer

    def _attempt(self, request: Request, passage: Passage) -> Response | Flight | Beyond | None:
        """Look once.

        Returns:
            The answer; a flight to wait for; `Beyond.LOOK` where replicas are to be asked; or
            None for a request that goes to the upstream.
        """
        entry, why = self._responses.select(passage.key, passage.headers)
        if entry is not None:
            answer, why = self._reused(request, passage, entry)
            if answer is not None:
                return answer
        passage.entry, passage.why = entry, why
        if passage.asked.only_if_cached:
            self._note(request, "only-if-cached")
            answer = Response.problem(
                _GATEWAY_TIMEOUT, "Not stored", "Nothing that is stored fits.", reason="not_stored"
            )
            answer.headers["cache-status"] = cache_status.not_stored()
            return answer
        flight = self._flight(request, passage)
        if flight is not None:
            return flight
        if self._shares(passage):
            return Beyond.LOOK
        self._goes(request, passage)
        return None

    def _reused(
        self, request: Request, passage: Passage, entry: Entry
    ) -> tuple[Response | None, str]:
        """Return the answer made of what is stored, or why there is none."""
        now = self._now()
        if conditions.for_upstream_alone(passage.headers, entry):
            return None, "request"
        found = reuse.use(entry, passage.asked, now)
        if found is Use.VALIDATE or (found is Use.REVALIDATE and passage.by_body):
            return None, "stale" if entry.fresh_until <= now or entry.validate else "request"
        answer = passage.answer(entry, now)
        if answer is None:
            return None, "partial"
        passage.answered = True
        if found is Use.REVALIDATE:
            self._revalidator.begin(request, passage, entry)
        if passage.waited:
            self._note(request, "collapsed")
        else:
            self._note(request, "hit" if found is Use.FRESH else "stale")
        return answer, ""

    def _flight(self, request: Request, passage: Passage) -> Flight | None:
        """Return the flight to wait for; None where this request goes itself."""
        if self.wait <= 0 or passage.method != "GET" or passage.asked.no_store:
            return None
        flights = self._responses.flights
        passage.place = self._responses.place(passage.key, passage.headers)
        passage.passing = flights.passes(passage.place) or not self._responses.trusted
        # What comes to a precondition is for nobody else, nor is what comes of others for it.
        if passage.gave_up or passage.passing or passage.headers.has_any(_PRECONDITIONS):
            return None
        under_way = flights.joined(passage.place)
        if under_way is not None:
            reloads = passage.asked.no_cache or passage.asked.max_age <= 0
            return None if reloads else under_way
        # One with conditions or a range of its own may get what nobody else can use.
        if passage.entry is not None or not passage.headers.has_any(validating.CONDITIONS):
            passage.flight = flights.begin(passage.place)
            # Whoever still waits then: nothing came, or not all of it, or trailers came behind.
            request.at_end(
                lambda: self._land(passage, unshared=passage.came, lost=not passage.came)
            )
        return None

    def _land(self, passage: Passage, *, unshared: bool = False, lost: bool = False) -> None:
        """Let go those who wait for this request, here and on other replicas."""
        if passage.leased and self._responses.shared is not None:
            passage.leased = False
            self._responses.shared.release(passage.place, unshared=unshared)
        if passage.flight is not None:
            flights = self._responses.flights
            if unshared:
                flights.unshared(passage.place)
            flights.end(passage.flight, lost=lost)
            passage.flight = None

    def _goes(self, request: Request, passage: Passage) -> None:
        """Let a request go to the upstream."""
        self._note(request, passage.why)
        passage.stamp, passage.sent = self._responses.stamp, self._now()
        if not passage.key:
            return
        # Stored once, encoded for each client by Envoy.
        request.headers["accept-encoding"] = "identity"
        entry = passage.entry
        if entry is None or entry.part is not None or request.method != "GET" or passage.by_body:
            return
        found = validating.conditions_for(entry)
        readable = answering.accepts(passage.headers, entry.first("content-encoding"))
        if not found or not readable or conditions.for_upstream_alone(passage.headers, entry):
            return
        passage.conditions = True
        for name in validating.CONDITIONS:
            del request.headers[name]
        for name, value in found:
            request.headers[name] = value

    def on_response(self, request: Request, response: Response) -> Response | None:
        """Begin to take the body if the response may be stored; use what a 304 confirms."""
        passage: Passage | None = getattr(request.state, "passage", None)
        if passage is None or passage.answered:
            response.released.add(request.slot)
            return None
        if not passage.key:
            self._responses.mark(marks(request, response, self.keyed, self.upstream))
            cache_status.say(response.headers, cache_status.forwarded(passage.why))
            response.released.add(request.slot)
            return None
        passage.came = True
        now = self._now()
        if passage.conditions and passage.entry is not None and response.status == _NOT_MODIFIED:
            return self._not_modified(request, passage, passage.entry, response)
        if response.status in validating.ERRORS and passage.entry is not None:
            stands = self._stands_in(request, passage, passage.entry, response.status)
            if stands is not None:
                return stands
        self._passes(request, passage, response, now)
        return None

    def _not_modified(
        self, request: Request, passage: Passage, entry: Entry, response: Response
    ) -> Response:
        """Answer with what a 304 confirmed.

        One that names another validator confirms the one that was asked about, as it was the
        only one, but says nothing new of it (RFC 9111 section 4.3.4).
        """
        if validating.confirms(response.headers, entry):
            entry = self._keeper.freshened(passage, entry, response.headers)
        self._land(passage)
        self._note(request, "revalidated")
        now = self._now()
        answer = passage.answer(entry, now)
        answer = answer or answering.whole(entry, now)
        answer.headers["cache-status"] = cache_status.forwarded(
            passage.why, status=_NOT_MODIFIED, stored=True, collapsed=passage.waited
        )
        return answer

    def _stands_in(
        self, request: Request, passage: Passage, entry: Entry, status: int
    ) -> Response | None:
        """Answer with what is stored in place of an error (RFC 5861 section 4)."""
        now = self._now()
        if not reuse.stands_in(entry, passage.asked, now):
            return None
        answer = passage.answer(entry, now)
        if answer is None:
            return None
        self._land(passage)
        self._note(request, "stale-if-error")
        left = entry.fresh_until - now
        answer.headers["cache-status"] = cache_status.stood_in(passage.why, status, left)
        return answer

    def _passes(self, request: Request, passage: Passage, response: Response, now: float) -> None:
        """Decide whether a response is stored while it passes."""
        kept = self._keeper.kept(passage, response, now)
        if kept.why_not:
            self._not_stored(request, passage, response, kept.why_not)
        else:
            # Plugins before the cache may change the headers before the body is there.
            passage.kept, passage.pieces = kept, []
            passage.fields = Headers(response.headers.items())
        # How large a body is that comes in pieces nobody knows, and what is said here is sent.
        stored = not kept.why_not and self._keeper.fits(response)
        said = passage.said(response.status, stored=stored, detail=kept.why_not)
        cache_status.say(response.headers, said)
        if response.ended and passage.pieces is not None:
            self._store(request, passage, response)

    def _not_stored(self, request: Request, passage: Passage, response: Response, why: str) -> None:
        passage.pieces = None  # there are some if a plugin behind refused the body: this is another
        response.released.add(request.slot)
        # What came to the client's own conditions, and an error, say nothing of the next answer.
        own = passage.headers.has_any(validating.CONDITIONS) and not passage.conditions
        own = own or why in _OF_THIS_TIME
        telling = not own and storing.is_telling(response.status)
        ends = telling and not storing.is_less(response.headers, response.metadata)
        if passage.method == "HEAD":
            self._keeper.head(passage, response)
        elif passage.entry is not None and ends:
            self._responses.drop(passage.key, passage.entry)
        self._land(passage, unshared=telling)

    def on_response_body(self, request: Request, response: Response, body: bytes) -> None:
        """Take a piece; at the last one, store."""
        passage: Passage | None = getattr(request.state, "passage", None)
        if passage is None or passage.pieces is None:
            return
        passage.size += len(body)
        if passage.size > self.policy.largest:
            self._not_stored(request, passage, response, "too-large")
            self._corrects(passage, response, "too-large")
            self._count(request, "too-large")
            return
        passage.pieces.append(body)
        if response.ended:
            self._store(request, passage, response)

    def _store(self, request: Request, passage: Passage, response: Response) -> None:
        stored = self._keeper.store(request, passage, response)
        if stored:
            self._count(request, "stored")
        self._corrects(passage, response, "" if stored else _NOT_THAT_PART)
        self._land(passage)

    def _corrects(self, passage: Passage, response: Response, why_not: str) -> None:
        """Say what became of a response, where its headers weren't sent before its body."""
        said = passage.said(response.status, stored=not why_not, detail=why_not)
        cache_status.correct(response.headers, said)

    def _note(self, request: Request, outcome: str) -> None:
        """Put what became of a lookup into the record and the metrics."""
        request.facts.cache = outcome
        self._count(request, outcome)

    def _count(self, request: Request, outcome: str) -> None:
        self._services.metrics.count("extproc_cache_total", (request.route, outcome))
