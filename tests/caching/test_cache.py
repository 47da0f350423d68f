"""The cache on a route: what it stores, what it answers from the store, and to whom."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest

from extproc.caching import purging
from extproc.caching.behind import Behind
from extproc.caching.by_body import LookByBody
from extproc.caching.invalidation import Invalidate
from extproc.caching.keys import INPUTS, KeyOf, all_headers, header
from extproc.caching.marks import ALL, TAG, URI, Mark
from extproc.caching.plugin import Cache
from extproc.caching.policy import Policy
from extproc.caching.responses import Responses
from extproc.caching.unusual import UNKEYED
from extproc.core.answered import Answered
from extproc.core.headers import Headers
from extproc.core.plugin import Plugin
from extproc.core.principal import Principal
from extproc.core.values import Request, Response
from extproc.expressions.conditions import condition
from extproc.expressions.templates import template
from extproc.testing import Trial


class Counting:
    """An upstream that counts what it was asked."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self.asked = 0
        self._status = status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __call__(self, _headers: Headers, _body: bytes) -> Response:
        """Answer with the count."""
        self.asked += 1
        return Response(self._status, self._headers, str(self.asked).encode())


def cache(ttl: float | None = 10.0, **options: Any) -> Cache:
    """Return a cache, by default of ten seconds."""
    options.setdefault("key", KeyOf("trial@1"))
    options.setdefault("policy", Policy(ttl=ttl))
    return Cache(**options)


async def bodies(trial: Trial, upstream: Counting, *targets: str) -> list[bytes]:
    """Ask for targets in turn; return the bodies."""
    return [(await trial.request(target=t, upstream=upstream)).body or b"" for t in targets]


async def test_a_hit_spares_the_upstream() -> None:
    """Within the lifetime; then it is asked again."""
    trial, upstream = Trial(cache()), Counting()
    assert await bodies(trial, upstream, "/a", "/a") == [b"1", b"1"]
    trial.clock.move(9.5)
    hit = await trial.request(target="/a", upstream=upstream)
    assert hit.headers["age"] == "9"
    assert hit.headers["cache-status"] == "extproc; hit; ttl=0"
    trial.clock.move(1)
    assert await bodies(trial, upstream, "/a") == [b"2"]


async def test_the_response_decides_first() -> None:
    """`s-maxage` and `max-age` come before the route's lifetime; an Age counts."""
    trial, upstream = Trial(cache()), Counting(cache_control="max-age=60, s-maxage=5")
    await bodies(trial, upstream, "/a")
    trial.clock.move(4)
    assert await bodies(trial, upstream, "/a") == [b"1"]
    trial.clock.move(2)
    assert await bodies(trial, upstream, "/a") == [b"2"]
    trial, upstream = Trial(cache()), Counting(cache_control="max-age=60", age="61")
    assert await bodies(trial, upstream, "/a", "/a") == [b"1", b"2"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"cache_control": "no-store"}),
        (200, {"cache_control": "private, max-age=60"}),
        (200, {"cache_control": 'private="x"'}),
        (200, {"cache_control": "no-cache"}),
        (200, {"cache_control": "max-age=junk"}),
        (200, {"cache_control": "max-age=60", "vary": "*, x"}),
        (200, {"cache_control": "max-age=60", "x_gateway_partial": "ads"}),
        (299, {"cache_control": "max-age=60, must-understand"}),
        (200, {"set_cookie": "a=b", "cache_control": "max-age=60"}),
        (200, {"grpc_status": "14", "cache_control": "max-age=60"}),
        (200, {"vary": "*"}),
        (200, {"vary": ",".join(f"x-{n}" for n in range(20))}),
        (206, {}),
        (401, {}),
        (404, {}),
        (500, {}),
        *((status, {"cache_control": "max-age=60"}) for status in (400, 412, 416, 417, 429, 431)),
    ],
)
async def test_c3_c7_c8_c11_what_is_not_stored(status: int, headers: dict[str, str]) -> None:
    """C3, C7, C8, C11: prohibitions always win, and only a 200 is stored."""
    trial, upstream = Trial(cache()), Counting(status, **headers)
    assert await bodies(trial, upstream, "/a", "/a") == [b"1", b"2"]


async def test_the_key_is_the_request_as_sent() -> None:
    """C6: nothing is taken for equal that an upstream could tell apart."""
    trial, upstream = Trial(cache()), Counting()
    targets = ["/a", "/A", "/a?x=1", "/a?x=1&x=2", "/a?x=2&x=1", "/%61"]
    assert len(set(await bodies(trial, upstream, *targets))) == len(targets)


async def test_variants_by_what_the_response_names() -> None:
    """C7: Vary selects; headers it doesn't name make no difference."""
    trial, upstream = Trial(cache()), Counting(vary="Accept-Language")
    for language, body in (("de", b"1"), ("en", b"2"), ("de", b"1"), ("en", b"2")):
        headers = {"accept-language": language, "user-agent": f"agent-{upstream.asked}"}
        response = await trial.request(headers=headers, upstream=upstream)
        assert response.body == body


class Named(Plugin):
    """Says who is calling, by a header."""

    def on_request(self, request: Request) -> None:
        """Set the principal."""
        name = request.headers.get("x-who")
        if name:
            request.principal = Principal("jwt", "shop", name, "issuer")


async def test_c1_nobody_gets_another_ones_answer() -> None:
    """C1, C9: A, then B, then anonymous; each asks the upstream."""
    key = KeyOf("trial@1", (("who", INPUTS["principal.subject"]),))
    trial, upstream = Trial(Named(), cache(key=key)), Counting()
    seen = [
        (await trial.request(headers={"x-who": who}, upstream=upstream)).body
        for who in ("alice", "bob", "", "alice")
    ]
    assert seen == [b"1", b"2", b"3", b"1"]


async def test_a_cookie_is_part_of_the_key() -> None:
    """What is sent upstream and may change the answer is in the key."""
    trial, upstream = Trial(cache()), Counting()
    for cookie, body in (("a=1", b"1"), ("a=2", b"2"), ("a=1", b"1")):
        response = await trial.request(headers={"cookie": cookie}, upstream=upstream)
        assert response.body == body


async def test_a_request_that_wants_the_upstream_gets_it() -> None:
    """A reload in a browser; what comes of it is stored."""
    trial, upstream = Trial(cache()), Counting()
    await bodies(trial, upstream, "/a")
    for headers in ({"cache-control": "no-cache"}, {"pragma": "no-cache"}):
        response = await trial.request(target="/a", headers=headers, upstream=upstream)
        assert response.body == str(upstream.asked).encode()
    assert await bodies(trial, upstream, "/a") == [b"3"]


async def test_methods() -> None:
    """GET is stored and answers HEAD; nothing else touches the store."""
    trial, upstream = Trial(cache()), Counting()
    await trial.request("HEAD", upstream=upstream)
    posted = await trial.request("POST", body=b"x", upstream=upstream)
    assert posted.headers["cache-status"] == "extproc; fwd=method"
    assert (await trial.request(upstream=upstream)).body == b"3"
    head = await trial.request("HEAD", upstream=upstream)
    assert head.headers["cache-status"].startswith("extproc; hit")
    assert upstream.asked == 3


async def test_a_large_body_passes_and_is_not_stored() -> None:
    """The bound is of what is stored, not of what is served."""
    trial = Trial(cache())
    large = Response(200, {}, b"x" * (1 << 21))
    first = await trial.request(upstream=lambda _h, _b: large)
    assert len(first.body or b"") == 1 << 21
    assert len(trial.objects) == 0


async def test_upstreams_are_asked_for_no_encoding() -> None:
    """Stored once, encoded for each client by Envoy."""
    trial = Trial(cache())
    await trial.request(headers={"accept-encoding": "gzip"})
    assert trial.seen["accept-encoding"] == "identity"


async def test_the_response_is_stored_as_the_plugins_behind_left_it() -> None:
    """And given to plugins before the cache each time, none of whose changes is stored."""
    seen: list[str] = []

    class Before(Plugin):
        """Marks what it sees."""

        def on_response(self, _request: Request, response: Response) -> None:
            """Note and change."""
            seen.append(response.headers.get("x-before") or "")
            response.headers["x-before"] = "yes"

    trial, upstream = Trial(Before(), cache()), Counting()
    for _ in range(3):
        response = await trial.request(upstream=upstream)
        assert response.headers["x-before"] == "yes"
    assert (seen, upstream.asked) == (["", "", ""], 1)


async def test_a_stale_response_is_validated_and_freshened() -> None:
    """A 304 updates what is stored (RFC 9111 section 3.2), and the client gets a 200."""
    trial = Trial(cache(None))
    asked: list[str | None] = []

    def upstream(headers: Headers, _body: bytes) -> Response:
        asked.append(headers.get("if-none-match"))
        fields = {"etag": '"v1"', "cache-control": "max-age=10", "x-count": str(len(asked))}
        if asked[-1] == '"v1"':
            response = Response(200, fields, b"")
            response.status = 304
            return response
        return Response(200, fields, b"body")

    await trial.request(upstream=upstream)
    trial.clock.move(11)
    again = await trial.request(upstream=upstream)
    assert (again.status, again.body, again.headers["x-count"]) == (200, b"body", "2")
    assert again.headers["cache-status"] == "extproc; fwd=stale; fwd-status=304; stored"
    hit = await trial.request(upstream=upstream)
    assert hit.headers["x-count"] == "2"
    assert asked == [None, '"v1"']


async def test_clients_conditions_are_held_against_what_is_stored() -> None:
    """304 by tag or date; 412 is the upstream's to say."""
    modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    trial = Trial(cache())
    upstream = Counting(etag='"v"', last_modified=modified, content_type="text/plain")
    await trial.request(upstream=upstream)
    for name, value, status in (
        ("if-none-match", '"v"', 304),
        ("if-none-match", 'W/"v"', 304),
        ("if-none-match", '"a", "v"', 304),
        ("if-none-match", "*", 304),
        ("if-none-match", '"other"', 200),
        ("if-modified-since", modified, 304),
        ("if-modified-since", "Mon, 01 Jan 2023 00:00:00 GMT", 200),
        ("if-modified-since", "yesterday", 200),
        ("if-match", '"v"', 200),
    ):
        response = await trial.request(headers={name: value}, upstream=upstream)
        assert (name, value, response.status) == (name, value, status)
        assert response.headers["etag"] == '"v"'
        assert ("content-type" in response.headers) == (status == 200)
    assert upstream.asked == 1
    await trial.request(headers={"if-match": '"other"'}, upstream=upstream)
    await trial.request(headers={"if-unmodified-since": modified}, upstream=upstream)
    assert upstream.asked == 3


async def test_parts_of_what_is_stored() -> None:
    """206, 416, or the whole where a range may be ignored (RFC 9110 section 14)."""
    trial = Trial(cache())

    def upstream(_headers: Headers, _body: bytes) -> Response:
        return Response(200, {"etag": '"v"'}, b"0123456789")

    await trial.request(upstream=upstream)
    for value, status, body in (
        ("bytes=0-1", 206, b"01"),
        ("bytes=8-", 206, b"89"),
        ("bytes=-3", 206, b"789"),
        ("bytes=4-100", 206, b"456789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("bytes=5-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ):
        response = await trial.request(headers={"range": value}, upstream=upstream)
        assert (value, response.status, response.body) == (value, status, body)
    assert response.headers.get("content-range") is None
    same = {"range": "bytes=0-1", "if-range": '"v"'}
    assert (await trial.request(headers=same, upstream=upstream)).status == 206
    other = {"range": "bytes=0-1", "if-range": '"w"'}
    assert (await trial.request(headers=other, upstream=upstream)).status == 200


async def test_parts_are_stored_and_put_together() -> None:
    """Of one strong validator alone (RFC 9111 section 3.4)."""
    trial = Trial(cache())
    whole = b"0123456789"
    asked: list[str | None] = []

    def upstream(headers: Headers, _body: bytes) -> Response:
        asked.append(headers.get("range"))
        fields = {"etag": '"v"', "cache-control": "max-age=60"}
        if asked[-1] is None:
            return Response(200, fields, whole)
        first, last = map(int, asked[-1].removeprefix("bytes=").split("-"))
        said = f"bytes {first}-{last}/10"
        return Response(206, fields | {"content-range": said}, whole[first : last + 1])

    async def get(value: str) -> bytes | None:
        return (await trial.request(headers={"range": value}, upstream=upstream)).body

    assert await get("bytes=2-5") == b"2345"
    assert await get("bytes=3-4") == b"34"
    assert await get("bytes=6-9") == b"6789"
    assert await get("bytes=4-7") == b"4567"
    assert await get("bytes=0-1") == b"01"
    assert (await trial.request(upstream=upstream)).body == whole
    assert asked == ["bytes=2-5", "bytes=6-9", "bytes=0-1"]


async def test_directives_of_requests() -> None:
    """RFC 9111 section 5.2.1."""
    trial, upstream = Trial(cache(None)), Counting(cache_control="max-age=60")
    await trial.request(upstream=upstream)
    trial.clock.move(30)
    for said, asked in (
        ("max-age=40", 1),
        ("max-age=20", 2),
        ("min-fresh=50", 2),
        ("max-stale=10", 2),
        ("only-if-cached", 2),
        ("nothing-to-see-here", 2),
    ):
        await trial.request(headers={"cache-control": said}, upstream=upstream)
        assert (said, upstream.asked) == (said, asked)
    trial.clock.move(70)
    stale = await trial.request(headers={"cache-control": "max-stale=20"}, upstream=upstream)
    assert (stale.body, stale.headers["cache-status"]) == (b"2", "extproc; hit; ttl=-10")
    missing = await trial.request(
        target="/b", headers={"cache-control": "only-if-cached"}, upstream=upstream
    )
    assert (missing.status, upstream.asked) == (504, 2)
    await trial.request(target="/c", headers={"cache-control": "no-store"}, upstream=upstream)
    await trial.request(target="/c", upstream=upstream)
    assert upstream.asked == 4


async def test_an_error_is_replaced_by_what_is_stored_where_it_may() -> None:
    """For as long as it may (RFC 5861 section 4); never past must-revalidate."""
    for said, bodies_seen in (
        ("max-age=10, stale-if-error=60", [b"1", b"1", b"3"]),
        ("max-age=10, stale-if-error=60, must-revalidate", [b"1", b"2", b"3"]),
    ):
        trial, upstream = Trial(cache(None)), Counting(cache_control=said)
        seen = [(await trial.request(upstream=upstream)).body]
        failing = Counting(503)
        failing.asked = 1
        for seconds in (20, 60):
            trial.clock.move(seconds)
            seen.append((await trial.request(upstream=failing)).body)
        assert (said, seen) == (said, bodies_seen)


async def test_policy_over_the_rfc() -> None:
    """Floors, ceilings, forced and negative lifetimes; prohibitions always win."""
    for policy, status, said, lifetime in (
        (Policy(min_ttl=30), 200, "max-age=5", 30),
        (Policy(max_ttl=30), 200, "max-age=500", 30),
        (Policy(force_ttl=30), 200, "max-age=500", 30),
        (Policy(force_ttl=30), 200, "no-store, max-age=500", 0),
        (Policy(force_ttl=30), 200, "private", 0),
        (Policy(force_ttl=30), 200, "max-age=5, must-revalidate", 5),
        (Policy(force_ttl=30), 200, "max-age=5, proxy-revalidate", 5),
        (Policy(force_ttl=30), 200, "max-age=0, must-revalidate", 0),
        (Policy(force_ttl=30), 200, "max-age=500, must-revalidate", 30),
        (Policy(force_ttl=30), 200, "must-revalidate", 30),
        (Policy(min_ttl=30), 200, "max-age=5, must-revalidate", 5),
        (Policy(ttl=30), 404, "", 0),
        (Policy(ttl=30, statuses={404: 5}), 404, "", 5),
        (Policy(statuses={404: 5}), 404, "max-age=7", 7),
        (Policy(), 200, "", 0),
    ):
        trial, upstream = Trial(cache(policy=policy)), Counting(status)
        if said:
            upstream = Counting(status, cache_control=said)
        await trial.request(upstream=upstream)
        trial.clock.move(max(lifetime - 1, 0))
        await trial.request(upstream=upstream)
        assert (policy, upstream.asked) == (policy, 1 if lifetime else 2)
        if lifetime:
            trial.clock.move(1)
            await trial.request(upstream=upstream)
            assert (policy, upstream.asked) == (policy, 2)


async def test_targeted_cache_control() -> None:
    """RFC 9213: what addresses us replaces Cache-Control; what can't be read doesn't."""
    for targeted, plain, asked in (
        ("max-age=60", "no-store", 1),
        ("max-age=0", "max-age=60", 2),
        ("no-store", "max-age=60", 2),
        ("private", "max-age=60", 2),
        ("max-age=60, &&&", "no-store", 2),
        ('max-age="60"', "no-store", 2),
        ("max-age=60;x=1, foo", "no-store", 1),
        ("", "max-age=60", 1),
    ):
        trial = Trial(cache(None))
        upstream = Counting(cdn_cache_control=targeted, cache_control=plain)
        await bodies(trial, upstream, "/", "/")
        assert (targeted, upstream.asked) == (targeted, asked)


async def test_unsafe_methods_make_void() -> None:
    """The target, Location and Content-Location of this origin, and groups; errors don't."""
    trial, upstream = Trial(cache()), Counting()
    invalidating = Counting(
        201, location="/b?x=1", content_location="http://shop/c", cache_group_invalidation='"g"'
    )
    grouped = Counting(cache_groups='"g", "h"')
    await bodies(trial, upstream, "/a", "/b?x=1", "/c", "/other", "http://elsewhere/a")
    await bodies(trial, grouped, "/g")
    await trial.request("POST", "/a", upstream=Counting(500))
    await bodies(trial, upstream, "/a")
    assert upstream.asked == 5
    await trial.request("M-SEARCH", "/a", upstream=invalidating)
    await bodies(trial, upstream, "/a", "/b?x=1", "/c", "/other")
    assert upstream.asked == 8
    await bodies(trial, grouped, "/g")
    assert grouped.asked == 2


async def test_a_response_that_was_asked_for_before_is_void_too() -> None:
    """A write that comes while a read is under way: the read may have seen what was before."""
    trial, upstream = Trial(cache()), Counting()

    def slow(headers: Headers, body: bytes) -> Response:
        responses.mark([Mark(URI, "http://shop/")])
        return upstream(headers, body)

    await trial.start()
    responses = trial.services.shared(Responses)
    await trial.request(upstream=slow)
    assert (await trial.request(upstream=upstream)).body == b"2"


async def test_other_routes_invalidate() -> None:
    """By the parameters that count in the keys of the cached ones."""
    key = KeyOf("trial@1", parameters=frozenset({"q"}))
    reading, upstream = Trial(cache(key=key)), Counting()
    writing = Trial(Invalidate(keyed=(frozenset({"q"}),)))
    writing.share(reading)
    await bodies(reading, upstream, "/a?q=1&utm=2", "/a?utm=3&q=1", "/a?q=2")
    assert upstream.asked == 2
    await writing.request("DELETE", "/a?q=1")
    await bodies(reading, upstream, "/a?q=1", "/a?q=2")
    assert upstream.asked == 3


async def test_purging_by_tag_and_all() -> None:
    """Hard or soft; a soft one is validated, or stands in for errors."""
    tags = (template("products"), template('{response.headers["x-tag"]}', response=True))
    trial, upstream = Trial(cache(tags=tags)), Counting(x_tag="a, b")
    await trial.start()
    responses = trial.services.shared(Responses)
    for number, mark in enumerate(
        (Mark(TAG, "products"), Mark(TAG, "b"), Mark(ALL), Mark(TAG, "b", soft=True)), 1
    ):
        await bodies(trial, upstream, "/")
        responses.mark([Mark(TAG, "other")])
        await bodies(trial, upstream, "/")
        assert upstream.asked == number
        responses.mark([mark])
    await bodies(trial, upstream, "/")
    assert upstream.asked == 5


async def test_tags_of_a_list() -> None:
    """What stands around the list is in each of them, so each is purged by its whole name."""
    tags = (
        template("id-{request.queries.id}"),
        template('kind-{response.headers["x-tag"]}', response=True),
    )
    trial, upstream = Trial(cache(tags=tags)), Counting(x_tag="a, b")
    await trial.start()
    responses = trial.services.shared(Responses)
    for number, tag in enumerate(("id-1", "id-2", "kind-a", "kind-b"), 1):
        await bodies(trial, upstream, "/?id=1&id=2")
        responses.mark([Mark(TAG, "2"), Mark(TAG, "b"), Mark(TAG, "id-1,2")])
        await bodies(trial, upstream, "/?id=1&id=2")
        assert upstream.asked == number
        responses.mark([Mark(TAG, tag)])


async def test_bypass() -> None:
    """Neither answered nor stored; a condition that can't be judged isn't true."""
    conditions = (condition('request.headers["x-preview"] == "1"'),)
    trial, upstream = Trial(cache(bypass=conditions)), Counting()
    for headers, body in (({}, b"1"), ({"x-preview": "1"}, b"2"), ({}, b"1")):
        assert (await trial.request(headers=headers, upstream=upstream)).body == body


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (412, {"if-match": '"other"'}),
        (416, {"range": "bytes=100-"}),
        (417, {"expect": "foo"}),
        (431, {"x-junk": "j" * 100}),
        (400, {"x-meta": "\\"}),
    ],
)
async def test_c8_what_is_wrong_with_one_request(status: int, more: dict[str, str]) -> None:
    """C8: it is that client's answer alone, and what is stored stays."""
    trial = Trial(cache(policy=Policy(statuses={404: 5.0})))

    def upstream(headers: Headers, _body: bytes) -> Response:
        answered = status if any(name in headers for name in more) else 200
        return Response(answered, {"cache-control": "max-age=60"}, b"x")

    refused = await trial.request(headers=more | {"cache-control": "no-cache"}, upstream=upstream)
    assert refused.status == status
    assert (await trial.request(upstream=upstream)).status == 200
    refused = await trial.request(headers=more | {"cache-control": "no-cache"}, upstream=upstream)
    assert refused.status == status
    stored = await trial.request(upstream=upstream)
    assert stored.status == 200
    assert "hit" in stored.headers["cache-status"]


async def test_c8_an_answer_that_a_plugin_behind_refuses() -> None:
    """C8: what stands in its place is the gateway's, and stored under nobody's lifetime."""

    class Refusing(Plugin):
        """Takes no body but one."""

        def on_response_body(self, _request: Request, response: Response, body: bytes) -> Any:
            """Refuse."""
            del response
            return None if body == b"good" else Response.problem(502, "Broken", "x")

    said = iter([b"bad", b"good"])
    trial = Trial(cache(), Refusing())

    def upstream(_headers: Headers, _body: bytes) -> Response:
        return Response(200, {"cache-control": "max-age=60"}, next(said))

    assert (await trial.request(upstream=upstream)).status == 502
    assert (await trial.request(upstream=upstream)).body == b"good"
    assert (await trial.request(upstream=upstream)).body == b"good"


async def test_what_an_upstream_encoded_unasked_serves_everybody() -> None:
    """Decoded once when it is stored; the tag is weak from then on."""
    compressor = zlib.compressobj(wbits=31)
    encoded = compressor.compress(b"plain") + compressor.flush()
    trial = Trial(cache())

    def upstream(_headers: Headers, _body: bytes) -> Response:
        return Response(200, {"content-encoding": "gzip", "etag": '"v"'}, encoded)

    first = await trial.request(upstream=upstream)
    assert first.body == encoded
    hit = await trial.request(upstream=upstream)
    assert (hit.body, hit.headers["etag"]) == (b"plain", 'W/"v"')
    assert "content-encoding" not in hit.headers


async def test_an_encoding_that_cannot_be_undone_is_for_those_who_accept_it() -> None:
    """Others ask the upstream."""
    trial, upstream = Trial(cache()), Counting(content_encoding="br")
    for accepted, body in (
        ("br", b"1"),
        ("gzip, br;q=0.5", b"1"),
        ("gzip", b"2"),
        ("br;q=0", b"3"),
    ):
        headers = {"accept-encoding": accepted}
        assert (await trial.request(headers=headers, upstream=upstream)).body == body


async def test_composed_answers_are_stored_by_their_own_headers() -> None:
    """An answer that a plugin behind the cache makes is a response like any other."""
    made: list[int] = []

    class Compose(Plugin):
        """Answers in place of an upstream."""

        def on_request(self, request: Request) -> Response:
            """Answer; a part is missing for one path."""
            made.append(1)
            response = Response.json({"count": len(made)})
            if request.path == "/partial":
                response.headers["x-gateway-partial"] = "ads"
            elif request.path == "/broken":
                return Response.problem(502, "Upstream failed")
            response.headers["cache-control"] = "max-age=10"
            return response

    trial = Trial(cache(), Compose())
    for target, count in (("/", 1), ("/", 1), ("/partial", 2), ("/partial", 3), ("/broken", 4)):
        await trial.request(target=target)
        assert (target, len(made)) == (target, count)


async def test_revalidation_in_the_background() -> None:
    """Stale is given at once; one request goes through the plugins behind the cache."""

    class Adds(Plugin):
        """Says who is calling, as identity headers do."""

        def on_request(self, request: Request) -> None:
            """Set a header."""
            request.headers["x-user"] = "alice"

    adds = Adds()
    plugin = cache(None, behind=Behind("catalog", (adds,), frozenset({"x-secret"})))
    trial = Trial(plugin, adds)
    upstream = Counting(cache_control="max-age=10, stale-while-revalidate=60", etag='"v"')
    fields = Headers([("cache-control", "max-age=10"), ("etag", '"w"')])
    trial.outside.answers["catalog/a"] = Answered(200, fields, b"new")
    headers = {"x-secret": "s", "accept-language": "de", "range": "bytes=0-0"}
    await bodies(trial, upstream, "/a")
    trial.clock.move(11)
    stale = await trial.request(target="/a", headers=headers, upstream=upstream)
    await bodies(trial, upstream, "/a")
    assert stale.headers["cache-status"] == "extproc; hit; ttl=-1"
    await trial.settled()
    assert await bodies(trial, upstream, "/a") == [b"new"]
    (call,) = trial.outside.calls
    assert call[0] == "catalog/a"
    assert dict(call[1]) == {
        "accept-language": "de",
        "accept-encoding": "identity",
        "if-none-match": '"v"',
        "x-user": "alice",
    }


async def test_revalidation_keeps_what_plugins_before_the_cache_did() -> None:
    """Another path for the upstream, and headers; never one that a client asked for in vain."""

    class Moves(Plugin):
        """Rewrites."""

        def on_request(self, request: Request) -> None:
            """Give the upstream another path."""
            request.rewrite("/moved")
            request.headers["x-tenant"] = "acme"

    plugin = cache(None, behind=Behind("catalog"))
    trial = Trial(Moves(), plugin)
    upstream = Counting(cache_control="max-age=10, stale-while-revalidate=60")
    await bodies(trial, upstream, "/a")
    trial.clock.move(11)
    await bodies(trial, upstream, "/a")
    await trial.settled()
    (call,) = trial.outside.calls
    assert (call[0], dict(call[1])["x-tenant"]) == ("catalog/moved", "acme")


async def test_a_leader_that_ends_without_a_response_strands_nobody() -> None:
    """Its client went away: the next one goes."""
    trial = Trial(cache())
    route = await trial.start()
    first = trial.exchange(route)
    await first.receive(trial.headers("/", route))
    waiting = [asyncio.ensure_future(trial.request(upstream=Counting())) for _ in range(3)]
    await asyncio.sleep(0.01)
    await first.finish()
    responses = await asyncio.gather(*waiting)
    assert {response.body for response in responses} == {b"1"}
    assert trial.counts.counts["extproc_cache_total", ("trial", "collapsed")] == 2


async def test_a_forwarded_credential_of_any_header_is_part_of_the_key() -> None:
    """One that nobody else's response fits, and whose response fits nobody else."""
    key = KeyOf("trial@1", secrets=("authorization", "cookie", "x-api-key"))
    trial = Trial(cache(key=key))

    def upstream(headers: Headers, _body: bytes) -> Response:
        return Response(200, {}, (headers.get("x-api-key") or "nobody").encode())

    for _ in range(2):
        for headers in ({}, {"x-api-key": "a"}, {"x-api-key": "b"}):
            response = await trial.request(headers=headers, upstream=upstream)
            assert response.body == headers.get("x-api-key", "nobody").encode()


@pytest.mark.parametrize("target", ["/a?", "/a", "/a?x=1"])
@pytest.mark.parametrize("parameters", [None, frozenset[str](), frozenset({"x"})])
async def test_an_empty_query_is_none(target: str, parameters: frozenset[str] | None) -> None:
    """For invalidation and for purging, whatever is in the key."""
    key = KeyOf("trial@1", parameters=parameters)
    trial, upstream = Trial(cache(key=key, keyed=(parameters,))), Counting()
    assert await bodies(trial, upstream, target, target) == [b"1", b"1"]
    await trial.request("PUT", target)
    assert await bodies(trial, upstream, target) == [b"2"]
    responses = trial.services.shared(Responses)
    responses.mark(purging.marks({"url": f"http://shop{target}"}, (parameters,)))
    assert await bodies(trial, upstream, target) == [b"3"]


async def test_a_304_that_names_other_fields_selects_by_them() -> None:
    """What it was confirmed for gets it, nobody else (RFC 9111 sections 3.2 and 4.1)."""
    trial = Trial(cache(None))
    begun = trial.clock.now()

    def upstream(headers: Headers, _body: bytes) -> Response:
        language = headers.get("x-lang") or ""
        fields = {"etag": f'"{language}"', "cache-control": "max-age=10"}
        if trial.clock.now() > begun:
            fields["vary"] = "x-lang"
        if headers.get("if-none-match") != fields["etag"]:
            return Response(200, fields, language.encode())
        response = Response(200, fields, b"")
        response.status = 304
        return response

    async def body(language: str) -> bytes | None:
        headers = {"x-lang": language}
        return (await trial.request(headers=headers, upstream=upstream)).body

    assert (await body("de"), await body("fr")) == (b"de", b"de")  # as it says by itself
    trial.clock.move(11)
    assert (await body("de"), await body("fr"), await body("de")) == (b"de", b"fr", b"de")


def by_body(*methods: str) -> Trial:
    """Return a trial of a cache that looks when the body is there."""
    stores = cache(methods=frozenset(methods))
    return Trial(stores, LookByBody(cache=stores))


async def test_a_body_is_read_as_the_request_says() -> None:
    """The same bytes by another method, as another type, coding or language: another answer."""
    trial, upstream = by_body("POST", "QUERY"), Counting()
    asked = [
        ("POST", {}),
        ("QUERY", {}),
        ("POST", {"content-type": "application/json"}),
        ("POST", {"content-type": "text/plain"}),
        ("POST", {"content-encoding": "gzip"}),
        ("POST", {"content-language": "gzip"}),
    ]
    for _ in range(2):
        for number, (method, headers) in enumerate(asked, 1):
            response = await trial.request(method, "/a", headers, b"{}", upstream=upstream)
            assert (number, response.body) == (number, str(number).encode())
    other = await trial.request("POST", "/a", {}, b"[]", upstream=upstream)
    assert other.body == str(len(asked) + 1).encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=0-0"},
        {"range": "bytes=9-"},
        {"if-none-match": '"v"'},
        {"if-none-match": "*"},
        {"if-modified-since": "Mon, 01 Jan 2024 00:00:00 GMT"},
    ],
)
async def test_what_is_stored_by_a_body_is_given_whole(headers: dict[str, str]) -> None:
    """Ranges and 304 are for GET and HEAD alone."""
    trial = by_body("POST")
    upstream = Counting(etag='"v"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    await trial.request("POST", "/a", body=b"{}", upstream=upstream)
    response = await trial.request("POST", "/a", headers, b"{}", upstream=upstream)
    assert (response.status, response.body, upstream.asked) == (200, b"1", 1)


async def test_a_part_of_an_answer_to_a_body_is_not_stored() -> None:
    """Nobody could ask for it."""
    trial = by_body("POST")
    upstream = Counting(206, content_range="bytes 0-0/10", cache_control="max-age=60")
    await trial.request("POST", "/a", {"range": "bytes=0-0"}, b"{}", upstream=upstream)
    assert len(trial.objects) == 0


async def test_c5_what_is_in_no_key_never_reaches_the_upstream() -> None:
    """C5: by what a request says of itself, unless the key or something behind reads it."""
    said = dict.fromkeys(UNKEYED, "marker7")
    trial, upstream = Trial(cache()), Counting()
    for method in ("GET", "HEAD"):
        await trial.request(method, f"/{method}", {"x-other": "marker7"} | said, upstream=upstream)
        assert [name for name in trial.seen if trial.seen[name] == "marker7"] == ["x-other"]
    assert await bodies(trial, upstream, "/GET") == [b"1"]
    assert (await trial.request(target="/GET", headers=said, upstream=upstream)).body == b"1"
    await trial.request("POST", "/GET", said, b"x", upstream=upstream)
    assert trial.seen["forwarded"] == "marker7"


@pytest.mark.parametrize(
    "key",
    [
        KeyOf("trial@1", headers=("x-host",)),
        KeyOf("trial@1", (("request.headers.x-host", header("x-host")),)),
        KeyOf("trial@1", (("request.headers", all_headers),)),
    ],
)
async def test_what_is_in_the_key_the_upstream_gets(key: KeyOf) -> None:
    """And so does what a plugin before the cache wrote."""

    class Writes(Plugin):
        def on_request(self, request: Request) -> None:
            request.headers["x-scheme"] = "https"

    trial = Trial(Writes(), cache(key=key))
    for host in ("a", "b"):
        await trial.request(headers={"x-host": host})
        assert (trial.seen["x-host"], trial.seen["x-scheme"]) == (host, "https")
