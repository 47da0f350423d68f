"""The cache's first form: a fixed lifetime, RFC 9111's prohibitions, nobody else's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.caching import rules
from extproc.caching.plugin import Cache
from extproc.core.plugin import Plugin
from extproc.core.principal import Principal
from extproc.core.values import Request, Response
from extproc.testing import Trial

if TYPE_CHECKING:
    from extproc.core.headers import Headers


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


def cache() -> Cache:
    """Return a cache of ten seconds."""
    return Cache(version="v", ttl=10.0)


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
        (200, {"set_cookie": "a=b", "cache_control": "max-age=60"}),
        (200, {"vary": "*"}),
        (200, {"vary": ",".join(f"x-{n}" for n in range(20))}),
        (206, {}),
        (401, {}),
        (404, {}),
        (500, {}),
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
    trial, upstream = Trial(Named(), cache()), Counting()
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


@pytest.mark.parametrize("header", [{"cache-control": "no-cache"}, {"range": "bytes=0-1"}])
async def test_requests_that_want_the_upstream_get_it(header: dict[str, str]) -> None:
    """A reload in a browser, a part of a body."""
    trial, upstream = Trial(cache()), Counting()
    await bodies(trial, upstream, "/a")
    response = await trial.request(target="/a", headers=header, upstream=upstream)
    assert response.body == b"2"


async def test_methods() -> None:
    """GET is stored and answers HEAD; nothing else touches the store."""
    trial, upstream = Trial(cache()), Counting()
    await trial.request("HEAD", upstream=upstream)
    posted = await trial.request("POST", body=b"x", upstream=upstream)
    assert posted.headers["cache-status"] == "extproc; fwd=method"
    assert (await trial.request(upstream=upstream)).body == b"3"
    assert (
        (await trial.request("HEAD", upstream=upstream))
        .headers["cache-status"]
        .startswith("extproc; hit")
    )
    assert upstream.asked == 3


async def test_a_large_body_passes_and_is_not_stored() -> None:
    """The bound is of what is stored, not of what is served."""
    trial = Trial(cache())
    large = Response(200, {}, b"x" * (1 << 21))
    first = await trial.request(upstream=lambda _h, _b: large)
    assert len(first.body or b"") == 1 << 21
    assert trial.store.size == 0


async def test_upstreams_are_asked_for_no_encoding() -> None:
    """Stored once, encoded for each client by Envoy."""
    trial = Trial(cache())
    await trial.request(headers={"accept-encoding": "gzip"})
    assert "accept-encoding" not in trial.seen


@given(st.binary(max_size=200))
def test_c14_any_bytes_in_the_store_are_a_response_or_a_miss(data: bytes) -> None:
    """C14: truncated, of another form, or somebody else's."""
    found = rules.Stored.read(data)
    assert found is None or isinstance(found.status, int)


@given(
    st.integers(200, 599),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.text(max_size=5)), max_size=3),
    st.binary(max_size=50),
)
def test_what_is_stored_is_read_back(
    status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    """Writing and reading are inverse."""
    headers = [(n, v.encode("ascii", "ignore").decode()) for n, v in headers]
    stored = rules.Stored(status, tuple(headers), body, 1.5, 2.5, 0.5)
    assert rules.Stored.read(stored.written()) == stored


@given(st.lists(st.text(max_size=6), min_size=2, max_size=4), st.integers(0, 3))
def test_c15_no_two_keys_run_together(parts: list[str], cut: int) -> None:
    """C15: moving a character from one part to the next gives another key."""
    first = parts[cut % len(parts)]
    if first:
        moved = list(parts)
        place = cut % len(parts)
        moved[place] = first[:-1]
        moved[(place + 1) % len(parts)] = first[-1] + moved[(place + 1) % len(parts)]
        if moved != parts:
            assert rules._hashed(tuple(moved)) != rules._hashed(tuple(parts))
