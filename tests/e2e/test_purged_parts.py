"""Purges and writes reach the stored parts of composed answers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_cache import purge
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

TEXT = """
STORE
upstreams:
  parts: {endpoints: ["http://127.0.0.1:UPSTREAM"]}
  others: {endpoints: ["http://127.0.0.1:UPSTREAM"]}
defaults: {authentication: none}
routes:
  - name: kept
    match: {path: "/kept/{p}", methods: [GET]}
    cache: {tags: [kept, "one-{request.params.p}"]}
    aggregate:
      calls:
        part: {upstream: parts, path: "/part/{request.params.p}"}
      response: "part"
  - name: paged
    match: {path: "/paged/{p}", methods: [GET]}
    cache: {key: {query: [page]}}
    aggregate:
      calls:
        part: {upstream: parts, path: "/part/{request.params.p}"}
      response: "part"
  - name: bare
    match: {path: "/bare/{p}"}
    aggregate:
      calls:
        part: {upstream: parts, path: "/part/{request.params.p}"}
      response: "part"
  - name: silent
    match: {path: "/silent/{p}", methods: [GET]}
    cache: {ttl: 1h}
    aggregate:
      calls:
        part: {upstream: parts, path: "/quiet/{request.params.p}"}
      response: "part"
  - {name: part, match: {path: "/part/*"}, upstream: parts, cache: {}}
  - {name: moved, match: {path: "/moved/{p}", methods: [PUT]}, upstream: parts,
     rewrite: {path: "/part/{request.params.p}"}}
  - {name: quiet, match: {path: "/quiet/*"}, upstream: parts}
  - {name: other, match: {path: "/else/{p}", methods: [PUT]}, upstream: others,
     rewrite: {path: "/part/{request.params.p}"}}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run an upstream that never answers the same twice."""
    numbers = itertools.count()

    def says(got: Got) -> Say:
        lasting = {} if got.path.startswith("/quiet") else {"cache-control": "max-age=600"}
        return Say(next(numbers), headers=lasting)

    with counting(says) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "redis"])
def running(
    request: pytest.FixtureRequest, redis: RedisServer, upstream: Counting
) -> Iterator[Gateway]:
    """Run the gateway."""
    store = "" if request.param == "memory" else f"store: {redis.url}"
    text = TEXT.replace("STORE", store).replace("UPSTREAM", str(upstream.port))
    with gateway(text) as place:
        until(lambda: stored(place, "/kept/ready"), "what is stored is used")
        yield place


def stored(place: Gateway, target: str) -> bytes | None:
    """Return an answer that is given again."""
    first = place.ask(target).body
    return first if place.ask(target).body == first else None


@pytest.mark.parametrize("soft", [(), ("--soft",)])
@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/kept/a", ("--url", "/kept/a")),
        ("/kept/a", ("--tag", "kept")),
        ("/kept/a", ("--tag", "one-a")),
        ("/kept/a", ("--tag", "parts:/part/a")),
        ("/bare/a", ("--url", "/bare/a")),
        ("/bare/a", ("--tag", "parts:/part/a")),
        ("/paged/a?page=1&x=1", ("--url", "/paged/a?page=1")),
    ],
)
def test_a_purge_reaches_the_parts(
    running: Gateway, target: str, named: tuple[str, str], soft: tuple[str, ...]
) -> None:
    """What an answer is made of is asked for again with it, by whatever it was named."""
    before = stored(running, target)
    assert before is not None
    option, value = named
    url = f"http://127.0.0.1:{running.port}{value}" if option == "--url" else value
    purge(running, option, url, *soft)
    after = running.ask(target).body
    assert after != before
    assert running.ask(target).body == after


@pytest.mark.parametrize("named", [("--tag", "one-b"), ("--tag", "parts:/part/b")])
def test_a_purge_of_something_else_leaves_them(running: Gateway, named: tuple[str, str]) -> None:
    """Another tag, another target."""
    before = stored(running, "/kept/c")
    assert before is not None
    purge(running, *named)
    assert running.ask("/kept/c").body == before


@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("/kept/w", "/part/w"),
        ("/bare/w", "/part/w"),
        ("/kept/w", "/moved/w"),
        ("/bare/w", "/moved/w"),
        ("/silent/w", "/quiet/w"),
        ("/bare/w", "/bare/w"),
    ],
)
def test_a_write_reaches_the_parts(running: Gateway, target: str, written: str) -> None:
    """And what is made of them, also where a part names no lifetime of its own."""
    before = stored(running, target)
    assert before is not None
    running.ask(written, method="PUT", body=b"x")
    assert running.ask(target).body != before


@pytest.mark.parametrize("written", ["/part/y", "/else/x"])
def test_a_write_elsewhere_leaves_them(running: Gateway, written: str) -> None:
    """To another target, or to another upstream."""
    before = stored(running, "/kept/x")
    assert before is not None
    assert running.ask(written, method="PUT", body=b"x").status == 200
    assert running.ask("/kept/x").body == before
