"""One exchange on its way through the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching import answering
from extproc.caching import status as cache_status
from extproc.caching.asking import NOTHING

if TYPE_CHECKING:
    from extproc.caching.asking import Asks
    from extproc.caching.entry import Entry
    from extproc.caching.flights import Flight
    from extproc.caching.keys import type_of_key
    from extproc.caching.replicated import Place
    from extproc.caching.storing import Kept
    from extproc.core.headers import Headers
    from extproc.core.values import Response


class Passage:
    """What the cache knows of an exchange that it didn't answer out of hand.

    Attributes:
        headers: of the request, as they came to the cache.
        method: of the request; `GET` also where another one is stored by its body.
        by_body: the body is part of the key.
        answered: out of the store.
        key: under which its response is stored; empty if none may be.
        asked: by the request's directives.
        why: it is forwarded, in the words of Cache-Status.
        entry: what is stored and may not be reused without the upstream.
        conditions: whether the upstream was asked to validate `entry`.
        flight: others wait for this one.
        place: of the flight, by which what can't be stored is remembered.
        waited: it waited for another.
        passing: what comes can't be shared, as far as is known.
        gave_up: it waited, and waits no more.
        came: the upstream's answer has begun.
        sent: when it was forwarded, seconds since the epoch.
        stamp: the newest marks then, of this worker and of all replicas.
        leased: other replicas wait for this one.
        kept: how its response is kept, while the body passes.
        fields: of its response, as they came to the cache.
        pieces: of the body so far; None where it isn't stored.
        size: of the pieces, bytes.
    """

    __slots__ = (
        "answered",
        "asked",
        "by_body",
        "came",
        "conditions",
        "entry",
        "fields",
        "flight",
        "gave_up",
        "headers",
        "kept",
        "key",
        "leased",
        "method",
        "passing",
        "pieces",
        "place",
        "sent",
        "size",
        "stamp",
        "waited",
        "why",
    )

    def __init__(self, headers: Headers, method: str = "GET", *, by_body: bool = False) -> None:
        self.headers = headers
        self.method = "GET" if by_body else method
        self.by_body = by_body
        self.answered = False
        self.key: type_of_key = ()
        self.asked: Asks = NOTHING
        self.why = ""
        self.entry: Entry | None = None
        self.conditions = False
        self.flight: Flight | None = None
        self.place: Place = ((), ())
        self.waited = False
        self.passing = False
        self.gave_up = False
        self.came = False
        self.sent = 0.0
        self.stamp = (0, 0, "")
        self.leased = False
        self.kept: Kept | None = None
        self.fields: Headers = headers
        self.pieces: list[bytes] | None = None
        self.size = 0

    def answer(self, entry: Entry, now: float) -> Response | None:
        """Return what the request gets of a stored response; see `answering.answer`.

        What is stored by a body is given whole: ranges are for GET (RFC 9110 section 14.2), and
        304 is for GET and HEAD (section 15.4.5).
        """
        if self.by_body:
            return answering.all_of(entry, self.headers, now)
        return answering.answer(entry, self.headers, self.method, now)

    def said(self, status: int, *, stored: bool, detail: str = "") -> str:
        """Return what Cache-Status says of an answer that the upstream gave.

        Args:
            status: of the answer.
            stored: it is stored, as far as is known.
            detail: why it isn't.
        """
        return cache_status.forwarded(
            self.why,
            status=status if self.conditions else 0,
            stored=stored,
            collapsed=self.waited,
            detail=detail,
        )
