"""Calls through the cache: what other features reuse of upstreams' answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from extproc.adapters.memory_objects import MemoryObjects
from extproc.adapters.memory_store import MemoryStore
from extproc.caching.called import CachedCalls
from extproc.caching.marks import TAG, URI, Mark
from extproc.caching.responses import Responses
from extproc.core.answered import Answered, Reuse
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers
from extproc.core.ports import Services, uncached
from extproc.testing import Counts, Events, ManualClock, Scripted
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from extproc.core.ports import Names


class Upstream:
    """Counts the calls that reach it; answers what it is told to."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.status = 200
        self.asked: list[list[tuple[str, str]]] = []
        self.timeouts: list[float | None] = []
        self.failing = False
        self.confirming: dict[str, str] = {}  # beside its validator
        self.go = asyncio.Event()
        self.go.set()

    async def call(
        self, upstream: str, method: str, target: str, *, headers: Any = (), **rest: Any
    ) -> Answered:
        """Answer with the count."""
        del upstream, method, target
        self.asked.append(list(headers))
        self.timeouts.append(rest["timeout"])
        await self.go.wait()
        if self.failing:
            raise UpstreamFault("connect", "gone")
        wanted = dict(headers).get("if-none-match")
        if wanted is not None and wanted == self.headers.get("etag"):
            return Answered(304, Headers([("etag", wanted), *self.confirming.items()]), b"")
        body = str(len(self.asked)).encode()
        return Answered(self.status, Headers(self.headers.items()), body)


class Place:
    """Calls through the cache over an upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.clock = ManualClock()
        self.tasks: list[asyncio.Future[None]] = []
        self.services = Services(
            call=upstream.call,
            cached=uncached(upstream.call),
            store=MemoryStore(self.clock),
            clock=self.clock,
            log=Events(),
            metrics=Counts(),
            fetch=Scripted(),
            spawn=self._spawn,
            objects=MemoryObjects(1 << 20),
        )
        self.responses = self.services.shared(Responses)
        self.calls = CachedCalls(self.services)

    def _spawn(self, work: Awaitable[None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def get(self, target: str = "/a", **options: Any) -> Answered:
        """Make a call."""
        return await self.calls.call("catalog", "GET", target, **options)


async def test_a_fresh_answer_is_given_again() -> None:
    """Within its lifetime, with what is left of it."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    first = await place.get()
    place.clock.move(20)
    second = await place.get()
    assert [first.body, second.body] == [b"1", b"1"]
    assert [first.source, second.source] == ["miss", "hit"]
    assert [first.lifetime, second.lifetime] == [60, 40]
    place.clock.move(41)
    assert (await place.get()).body == b"2"


@pytest.mark.parametrize("directives", ["no-store", "private, max-age=60", "max-age=0"])
async def test_what_may_not_be_stored_is_asked_for_each_time(directives: str) -> None:
    """And has no lifetime."""
    upstream = Upstream(cache_control=directives)
    place = Place(upstream)
    answers = [await place.get(), await place.get()]
    assert [answer.body for answer in answers] == [b"1", b"2"]
    assert {answer.lifetime for answer in answers} == {0}


async def test_another_identity_gets_another_answer() -> None:
    """Equal texts share, others don't; the text itself is in no key."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    bodies = [(await place.get(identity=who)).body for who in ("alice", "bob", "", "alice", "")]
    assert bodies == [b"1", b"2", b"3", b"1", b"3"]


async def test_other_methods_and_bodies_pass() -> None:
    """Nothing of them is stored."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    for body in (b"1", b"2"):
        answer = await place.calls.call("catalog", "POST", "/a", body=b"x")
        assert (answer.body, answer.source) == (body, "")


async def test_an_error_says_nothing_of_the_next_answer() -> None:
    """What is stored is still validated, and equal calls still collapse."""
    upstream = Upstream(cache_control="max-age=60", etag='"v"')
    place = Place(upstream)
    await place.get()
    place.clock.move(61)
    usual, upstream.headers, upstream.status = upstream.headers, {}, 503
    assert (await place.get()).status == 503
    upstream.headers, upstream.status = usual, 200
    upstream.go.clear()
    calls = [asyncio.ensure_future(place.get()) for _ in range(5)]
    await _released(upstream, lambda: len(upstream.asked) >= 3)
    assert {(await call).body for call in calls} == {b"1"}
    assert [dict(headers).get("if-none-match") for headers in upstream.asked] == [
        None,
        '"v"',
        '"v"',
    ]


async def test_an_answer_that_is_not_to_be_stored_ends_what_is() -> None:
    """A stored one is over with a success that forbids storing."""
    upstream = Upstream(cache_control="max-age=60", etag='"v"')
    place = Place(upstream)
    await place.get()
    place.clock.move(61)
    upstream.headers = {"cache-control": "no-store"}
    assert (await place.get()).body == b"2"
    await place.get()
    assert [dict(headers).get("if-none-match") for headers in upstream.asked] == [None, '"v"', None]


@pytest.mark.parametrize(
    ("method", "status", "said", "asked"),
    [
        ("POST", 200, {}, 3),
        ("DELETE", 204, {}, 3),
        ("M-SEARCH", 200, {}, 3),
        ("POST", 303, {}, 3),
        ("POST", 400, {}, 2),
        ("POST", 503, {}, 2),
        ("QUERY", 200, {}, 2),
        ("OPTIONS", 200, {}, 2),
    ],
)
async def test_unsafe_calls_make_void(method: str, status: int, said: Any, asked: int) -> None:
    """RFC 9111 section 4.4: what a successful one was about is asked for again."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    await place.get()
    upstream.status, upstream.headers = status, {"cache-control": "max-age=60"} | said
    await place.calls.call("catalog", method, "/a", body=b"1")
    upstream.status = 200
    await place.get()
    await place.get()
    assert len(upstream.asked) == asked


@pytest.mark.parametrize(
    ("location", "asked"),
    [("/a", 3), ("a", 3), ("../a", 3), ("/b", 2), ("http://elsewhere.test/a", 2), ("http://[", 2)],
)
async def test_unsafe_calls_say_where_else(location: str, asked: int) -> None:
    """The location is void too, where it names no other host."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    await place.get()
    upstream.headers = {"cache-control": "max-age=60", "location": location}
    await place.calls.call("catalog", "POST", "/list")
    await place.calls.call("other", "POST", "/a")
    await place.get()
    assert len(upstream.asked) == asked + 1


async def test_vary_selects_among_the_headers_of_the_call() -> None:
    """In their normal form."""
    upstream = Upstream(cache_control="max-age=60", vary="Accept-Language")
    place = Place(upstream)
    bodies = [
        (await place.get(headers=[("Accept-Language", language)])).body
        for language in ("de, en", "fr", "EN,de", "fr")
    ]
    assert bodies == [b"1", b"2", b"1", b"2"]


async def test_a_stale_answer_is_validated() -> None:
    """By its validator; a 304 makes it fresh again."""
    upstream = Upstream(cache_control="max-age=60", etag='"x"')
    place = Place(upstream)
    await place.get()
    place.clock.move(61)
    again = await place.get()
    assert (again.body, again.lifetime, len(upstream.asked)) == (b"1", 60, 2)
    assert dict(upstream.asked[1])["if-none-match"] == '"x"'


async def test_a_304_that_names_other_fields_selects_by_them() -> None:
    """What it was confirmed for gets it; another call asks for its own."""
    upstream = Upstream(cache_control="max-age=60", etag='"v"')
    place = Place(upstream)
    await place.get(headers=[("accept-language", "de")])
    place.clock.move(61)
    upstream.confirming = {"vary": "accept-language"}
    assert (await place.get(headers=[("accept-language", "de")])).source == "hit"
    assert (await place.get(headers=[("accept-language", "de")])).source == "hit"
    assert len(upstream.asked) == 2
    assert (await place.get(headers=[("accept-language", "fr")])).body == b"3"


async def test_a_stored_answer_stands_in_for_an_error() -> None:
    """For as long as the caller allows, and says that it is stale."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    await place.get()
    place.clock.move(70)
    upstream.failing = True
    answer = await place.get(stale_if_error=30)
    assert (answer.body, answer.stale, answer.lifetime, answer.source) == (b"1", True, 0, "stale")
    upstream.failing, upstream.status, upstream.headers = False, 503, {}
    assert (await place.get(stale_if_error=30)).body == b"1"
    assert (await place.get()).status == 503
    upstream.failing = True
    place.clock.move(21)
    with pytest.raises(UpstreamFault):
        await place.get(stale_if_error=30)


async def test_must_revalidate_is_never_given_stale() -> None:
    """Whatever the caller allows (RFC 9111 section 5.2.2.2)."""
    upstream = Upstream(cache_control="max-age=60, must-revalidate")
    place = Place(upstream)
    await place.get()
    place.clock.move(61)
    upstream.failing = True
    with pytest.raises(UpstreamFault):
        await place.get(stale_if_error=300)


async def test_stale_while_revalidate_answers_at_once() -> None:
    """One call goes in the background."""
    upstream = Upstream(cache_control="max-age=60, stale-while-revalidate=60")
    place = Place(upstream)
    await place.get()
    place.clock.move(61)
    upstream.go.clear()
    answers = [await place.get() for _ in range(5)]
    assert {(answer.body, answer.stale) for answer in answers} == {(b"1", True)}
    upstream.go.set()
    await asyncio.gather(*place.tasks)
    assert len(upstream.asked) == 2
    assert (await place.get()).body == b"2"


async def _together(place: Place, count: int, **options: Any) -> list[Answered]:
    return await asyncio.gather(*(place.get(**options) for _ in range(count)))


async def _released(upstream: Upstream, asked: Callable[[], bool]) -> None:
    while not asked():  # noqa: ASYNC110 - what is waited for is no event
        await asyncio.sleep(0)
    upstream.go.set()


async def test_equal_calls_collapse() -> None:
    """Twenty ask, one goes."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    upstream.go.clear()
    together = asyncio.ensure_future(_together(place, 20))
    await _released(upstream, lambda: bool(upstream.asked))
    answers = await together
    assert len(upstream.asked) == 1
    assert sorted(answer.source for answer in answers) == ["collapsed"] * 19 + ["miss"]


async def test_nobody_waits_twice_for_what_cannot_be_shared() -> None:
    """The first burst learns it, the next goes at once."""
    upstream = Upstream(cache_control="no-store")
    place = Place(upstream)
    await _together(place, 3)
    upstream.go.clear()
    asked = len(upstream.asked)
    together = asyncio.ensure_future(_together(place, 20))
    await _released(upstream, lambda: len(upstream.asked) == asked + 20)
    await together


async def test_the_one_who_went_being_cancelled_strands_nobody() -> None:
    """Another one goes."""
    upstream = Upstream(cache_control="max-age=60")
    place = Place(upstream)
    upstream.go.clear()
    leader = asyncio.ensure_future(place.get())
    await asyncio.sleep(0)
    together = asyncio.ensure_future(_together(place, 5))
    await asyncio.sleep(0)
    leader.cancel()
    await _released(upstream, lambda: len(upstream.asked) == 2)
    assert {answer.body for answer in await together} == {b"2"}


async def test_marks_make_void_or_stale() -> None:
    """By the URI of the call or a tag; softly by validation."""
    upstream = Upstream(cache_control="max-age=60", etag='"x"', cache_groups='"shoes"')
    place = Place(upstream)
    first = await place.get()
    assert first.tags == ("catalog:/a", "group catalog:/a shoes")
    place.responses.mark([Mark(TAG, first.tags[1])])
    assert (await place.get()).body == b"2"
    place.responses.mark([Mark(URI, "catalog:/a", soft=True)])
    assert (await place.get()).body == b"2"
    assert dict(upstream.asked[2])["if-none-match"] == '"x"'


@pytest.mark.parametrize("control", ["max-age=60", "no-store", ""])
async def test_every_answer_is_named(control: str) -> None:
    """By its upstream and target, stored or not: what is made of it may be stored."""
    place = Place(Upstream(cache_control=control))
    assert [(await place.get("/a?b=1")).tags for _ in range(2)] == [("catalog:/a?b=1",)] * 2


@pytest.mark.parametrize(
    ("mark", "body", "calls"),
    [
        (Mark(URI, "http://shop/x"), b"2", 2),
        (Mark(TAG, "home"), b"2", 2),
        (Mark(URI, "http://shop/x", soft=True), b"1", 2),
        (Mark(URI, "http://shop/y"), b"1", 1),
        (Mark(TAG, "http://shop/x"), b"1", 1),
    ],
)
async def test_marks_of_what_a_call_is_made_for(mark: Mark, body: bytes, calls: int) -> None:
    """An answer stored for another's sake isn't used either; who asks is told once."""
    upstream = Upstream(cache_control="max-age=60", etag='"x"')
    place = Place(upstream)
    asked: list[bool] = []

    def about() -> Names:
        asked.append(True)
        return (URI, "http://shop/x"), (TAG, "home")

    await place.get()
    place.responses.mark([mark])
    found = [await place.get(about=about), await place.get(), await place.get(about=about)]
    assert {answer.body for answer in found} == {body}
    assert len(upstream.asked) == calls
    assert len(asked) == 1


async def test_what_addresses_this_cache_alone_is_stored() -> None:
    """RFC 9213: also where the last answer said nothing of its reuse."""
    upstream = Upstream()
    place = Place(upstream)
    await place.get()
    upstream.headers = {"cdn-cache-control": "max-age=60"}
    assert [(await place.get()).body for _ in range(3)] == [b"2"] * 3


async def test_what_answers_say_of_their_reuse() -> None:
    """Stored, given again, passing, and of safe calls that aren't stored; no other."""
    upstream = Upstream(cache_control="max-age=60, must-revalidate")
    place = Place(upstream)
    answers = [await place.get()]
    place.clock.move(20)
    answers += [await place.get(), await place.calls.call("catalog", "HEAD", "/a")]
    strict = Reuse(60.0, 60.0, frozenset({"must-revalidate"}))
    assert [(one.reuse, one.old) for one in answers] == [(strict, old) for old in (0, 20, 0)]
    assert (await place.calls.call("catalog", "POST", "/a")).reuse is None
    upstream.headers = {"cache-control": "no-store"}
    said = [(await place.get("/b")).reuse for _ in range(2)]
    assert said == [Reuse(demands=frozenset({"no-store"}))] * 2
    upstream.headers = {}
    said = [(await place.get("/c")).reuse for _ in range(2)]
    assert said == [Reuse()] * 2


@pytest.mark.parametrize("directives", ["no-store", "no-cache"])
async def test_what_is_hardly_ever_for_others(directives: str) -> None:
    """After three of a kind nobody waits for another's, until one is for others again."""
    upstream = Upstream(cache_control=directives, etag='"v"')
    place, kind = Place(upstream), {"alike": "/{id}"}

    async def both(target: str) -> int:
        upstream.asked.clear()
        upstream.go.clear()
        waiting = [asyncio.ensure_future(place.get(target, **kind)) for _ in range(2)]
        for _ in range(10):
            await asyncio.sleep(0)
        under_way = len(upstream.asked)
        upstream.go.set()
        await asyncio.gather(*waiting)
        return under_way

    assert [await both(f"/{n}") for n in range(4)] == [1, 1, 1, 2]
    assert await both("/3") == 2
    kind = {"alike": "/other"}
    assert await both("/of-another-kind") == 1
    kind = {"alike": "/{id}"}
    upstream.headers["cache-control"] = "max-age=60"
    assert [await both(f"/new/{n}") for n in range(2)] == [2, 1]


async def test_what_is_not_usable_stands_for_nothing() -> None:
    """It isn't stored, and what is stored stands in as for an error, for as long."""
    upstream = Upstream(cache_control="max-age=10")
    place = Place(upstream)

    async def get() -> bytes:
        said: dict[str, Any] = {"usable": lambda answer: answer.body == b"1", "stale_if_error": 60}
        return (await place.get(**said)).body

    assert await get() == b"1"
    place.clock.move(20)
    assert [await get(), await get()] == [b"1", b"1"]
    assert len(upstream.asked) == 3
    place.clock.move(60)
    assert [await get(), await get()] == [b"4", b"5"]
    upstream.headers["cache-control"] = "no-store"
    assert [(await place.get("/b")).body for _ in range(2)] == [b"6", b"7"]
    upstream.headers["cache-control"] = "max-age=10"
    usable = {"usable": lambda _answer: False}
    assert [(await place.get("/b", **usable)).body for _ in range(2)] == [b"8", b"9"]


@pytest.mark.parametrize(("directives", "judged"), [("max-age=10", 2), ("no-store", 0)])
async def test_only_what_would_be_stored_is_judged(directives: str, judged: int) -> None:
    """To judge means to read: a hit was judged when it came, and what passes isn't."""
    upstream = Upstream(cache_control=directives)
    place = Place(upstream)
    seen: list[bytes] = []

    def usable(answer: Answered) -> bool:
        seen.append(answer.body)
        return True

    for target in ("/a", "/b", "/a", "/b", "/a"):
        await place.get(target, usable=usable)
    assert len(seen) == judged
    place.clock.move(11)
    await place.get(usable=usable)  # it might have to stand in
    assert len(seen) == judged + bool(judged)


async def test_who_waited_has_what_is_left_of_the_time() -> None:
    """The timeout is of the call as its caller sees it, the wait for an equal one included."""
    upstream = Upstream()
    place = Place(upstream)
    upstream.failing = True
    upstream.go.clear()
    legs = [asyncio.ensure_future(place.get(timeout=3.0)) for _ in range(2)]
    await until_async(lambda: len(upstream.asked) == 1)
    place.clock.move(2)
    legs.append(asyncio.ensure_future(place.get(timeout=3.0)))
    await asyncio.sleep(0)
    place.clock.move(0.5)
    upstream.go.set()
    outcomes = await asyncio.gather(*legs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamFault] * 3
    assert upstream.timeouts == [3.0, 0.5, 2.5]


async def test_who_waited_all_the_time_asks_nobody() -> None:
    """What is left is nothing; what is stored stands in where it may."""
    upstream = Upstream(cache_control="max-age=1")
    place = Place(upstream)
    await place.get()
    place.clock.move(2)
    upstream.failing = True
    upstream.go.clear()
    legs = [
        asyncio.ensure_future(place.get(timeout=3.0, stale_if_error=seconds))
        for seconds in (60.0, 0.0, 60.0)
    ]
    await until_async(lambda: len(upstream.asked) == 2)
    place.clock.move(3)
    upstream.go.set()
    outcomes = await asyncio.gather(*legs, return_exceptions=True)
    assert [getattr(outcome, "body", None) for outcome in outcomes] == [b"1", None, b"1"]
    assert len(upstream.asked) == 2
