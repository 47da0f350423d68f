"""What clients can make long is bounded in bytes, not in number alone."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.caching import keys, making
from extproc.caching.entry import Entry
from extproc.caching.flights import Flights
from extproc.caching.keys import KeyOf
from extproc.caching.marks import TAG, URI, Mark, Marks
from extproc.caching.plugin import Cache
from extproc.caching.responses import Responses
from extproc.caching.storing import Kept
from extproc.core.headers import Headers
from extproc.core.values import Response
from extproc.testing import Trial
from tests.support.compiled import interpreted

LONG = "/p/" + "x" * 50_000
_texts = st.text(max_size=3).map(lambda text: text * 130)


@given(_texts, _texts)
def test_short_texts_tell_long_ones_apart(one: str, two: str) -> None:
    """They are equal for equal texts alone, and stay what they are."""
    assert keys.short(keys.short(one)) == keys.short(one)
    assert len(keys.short(one)) <= 256
    assert (keys.short(one) == keys.short(two)) is (one == two)


def test_long_marks_take_little() -> None:
    """A thousand writes to long URIs."""
    known = Marks()
    tracemalloc.start()
    try:
        for number in range(1000):
            known.add(Mark(URI, f"http://shop{LONG}{number}"))
            known.add(Mark(TAG, f"{LONG}{number}"))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


def test_passes_are_bounded_by_their_keys() -> None:
    """The oldest go; what was replaced or let go isn't counted."""
    flights = Flights(most_passes=100, largest_passes=1000)
    places = [(("r", "http", "shop", str(number) * 90), ()) for number in range(10, 40)]
    for place in places:
        flights.unshared(place)
        flights.unshared(place, stored=place is places[-1])
    assert [place for place in places if flights.passes(place)] == places[-5:]
    for place in places:
        flights.shared(place)
        flights.shared(place)
    for place in places[:5]:
        flights.unshared(place)
    assert all(flights.passes(place) for place in places[:5])
    flights.unshared((("r", "x" * 1001), ()))
    assert not any(flights.passes(place) for place in places)
    for number in range(200):
        flights.unshared(((str(number),), ()))
    assert sum(flights.passes(((str(number),), ())) for number in range(200)) == 100


async def test_the_key_is_part_of_what_is_stored() -> None:
    """A store of a megabyte holds no hundred responses of long URIs."""
    trial = Trial(Cache(key=KeyOf("trial@1")))
    objects = trial.objects
    stored = Response(200, {"cache-control": "max-age=60"}, b"")
    for number in range(3):
        await trial.request("GET", f"{LONG}{number}", upstream=lambda *_: stored)
    assert objects.cost > 3 * len(LONG)


@pytest.mark.parametrize("target", ["/a", LONG])
async def test_long_uris_are_purged_and_invalidated_like_others(target: str) -> None:
    """By their whole text."""
    trial = Trial(Cache(key=KeyOf("trial@1")))
    asked: list[None] = []

    def says(*_: object) -> Response:
        asked.append(None)
        return Response(200, {"cache-control": "max-age=60"}, b"")

    async def read() -> int:
        await trial.request("GET", target, upstream=says)
        await trial.request("GET", target, upstream=says)
        return len(asked)

    assert await read() == 1
    await trial.request("POST", target, upstream=lambda *_: Response(204))
    assert await read() == 2
    await trial.request("POST", f"{target}y", upstream=lambda *_: Response(204))
    assert await read() == 2
    trial.services.shared(Responses).mark([Mark(URI, f"http://shop{target}")])
    assert await read() == 3


def test_what_a_stored_response_is_named_is_short() -> None:
    """Its URI, tags and groups."""
    fields = Headers([("cache-groups", f'"{"g" * 5000}"')])
    uri = f"http://shop{LONG}"
    entry = making.made(
        200, fields, b"", Kept(), Headers(), sent=0, now=0, uri=uri, tags=(LONG, "a")
    )
    assert isinstance(entry, Entry)
    assert entry.tags[:2] == (keys.short(LONG), "a")
    assert all(len(name) <= 256 for name in (entry.uri, *entry.tags))
    assert Mark(URI, uri).means(entry)
    assert Mark(TAG, LONG).means(entry)


@interpreted
async def test_a_request_is_read_once_for_all_variants() -> None:
    """However many are stored, and in whatever order their fields are named."""

    class Reads(Headers):
        """Headers that count how often one was asked for."""

        times = 0

        def get(self, name: str, default: str | None = None) -> str | None:
            """Count, and return the value."""
            self.times += 1
            return super().get(name, default)

    trial = Trial(Cache(key=KeyOf("trial@1")))
    responses = trial.services.shared(Responses)
    for number in range(32):
        languages = ("accept-language", f"x{number}"), ("x-one", None)
        entry = Entry(200, (), b"", 0.0, 0.0, 60.0, selecting=languages[:: 1 - number % 2 * 2])
        responses.keep(("k",), entry)
    asked = Reads([("accept-language", "a, " * 20_000)])
    assert responses.select(("k",), asked) == (None, "vary-miss")
    assert asked.times == 2
    found, _ = responses.select(("k",), Reads([("accept-language", "X7")]))
    assert found is not None
    assert found.selecting[-1] == ("accept-language", "x7")
