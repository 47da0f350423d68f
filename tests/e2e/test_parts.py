"""Parts of composed answers through a real Envoy: GraphQL ones, and those that replicas share."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

TEXT = """
store: {redis}
upstreams: {{parts: {{endpoints: ["http://127.0.0.1:{port}"], identity: none}}}}
defaults: {{authentication: none}}
routes:
  - name: reviews
    match: {{path: "/reviews/{{id}}"}}
    aggregate:
      calls:
        found:
          upstream: parts
          path: /graphql
          graphql:
            query: "query($id: ID!, $first: Int) {{ reviews(of: $id, first: $first) {{ text }} }}"
            variables: {{id: "{{request.params.id}}", first: 3}}
          required: false
          default: {{reviews: []}}
      response: "found.reviews[].text"
  - name: page
    match: {{path: "/page/{{id}}"}}
    aggregate:
      calls:
        kept: {{upstream: parts, path: "/kept/{{request.params.id}}"}}
        other: {{upstream: parts, path: "/kept/other-{{request.params.id}}"}}
      response: "{{kept: kept, other: other}}"
  - name: short
    match: {{path: /short}}
    aggregate:
      calls:
        short: {{upstream: parts, path: /short, stale: 5m, required: false, default: none}}
      response: "short"
  - name: change
    match: {{path: "/change/{{id}}", methods: [POST]}}
    aggregate:
      calls:
        done: {{upstream: parts, method: POST, path: "/kept/{{request.params.id}}"}}
      response: "{{done: done}}"
"""


BROKEN = threading.Event()


def answer(got: Got) -> Say:
    """Answer a GraphQL query, or with a lifetime."""
    if got.path == "/graphql":
        variables = got.json["variables"]
        if variables["id"] == "broken":
            return Say({"data": None, "errors": [{"message": "no such product"}]})
        texts = [{"text": f"{variables['id']} {n}"} for n in range(variables["first"])]
        return Say({"data": {"reviews": texts}})
    if got.path == "/short":
        return Say("some", 503 if BROKEN.is_set() else 200, {"cache-control": "max-age=1"})
    return Say(got.path, headers={"cache-control": "max-age=60"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(answer) as running:
        yield running


@pytest.fixture(scope="module")
def replicas(redis: RedisServer, upstream: Counting) -> Iterator[tuple[Gateway, Gateway]]:
    """Run two gateways on one Redis, the first with two workers; wait until they share."""
    text = TEXT.format(redis=redis.url, port=upstream.port)
    with ExitStack() as stack:
        one = stack.enter_context(gateway(text, workers=2))
        two = stack.enter_context(gateway(text))
        for running in (one, two):
            until(partial(shares, running, upstream), "what is stored is used")
        yield one, two


def shares(running: Gateway, upstream: Counting) -> bool:
    """Say whether each worker of a gateway takes parts from what is stored."""
    before = upstream.count("/kept/ready")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: running.ask("/page/ready"), range(16)))
    return before > 0 and upstream.count("/kept/ready") == before


def test_a_graphql_query(replicas: tuple[Gateway, Gateway], upstream: Counting) -> None:
    """A constant query with variables of the request's; what a client sends stays a value."""
    strange = 'a"}) { id } #'
    reply = replicas[0].ask("/reviews/a%22%7D)%20%7B%20id%20%7D%20%23")
    assert json.loads(reply.body) == [f"{strange} {n}" for n in range(3)]
    got = upstream.got[-1]
    assert (got.method, got.headers["content-type"]) == ("POST", "application/json")
    assert got.json["query"].startswith("query($id: ID!")
    assert got.json["variables"] == {"id": strange, "first": 3}


def test_a_graphql_answer_with_errors(replicas: tuple[Gateway, Gateway]) -> None:
    """Is a failure: here the part's default stands in, and the answer says so."""
    reply = replicas[0].ask("/reviews/broken")
    assert (reply.status, json.loads(reply.body)) == (200, [])
    assert reply.headers["x-gateway-partial"] == "found"


def test_parts_are_shared_by_replicas(
    replicas: tuple[Gateway, Gateway], upstream: Counting
) -> None:
    """Each part is called for once over three workers; a busy machine may cost a hit."""
    assert any(once(replicas, upstream, f"x{number}") for number in range(5))


def once(replicas: tuple[Gateway, Gateway], upstream: Counting, name: str) -> bool:
    """Say whether all workers together made each call once."""
    bodies = pages(replicas, name)
    assert {json.loads(body)["other"] for body in bodies} == {f"/kept/other-{name}"}
    return (upstream.count(f"/kept/{name}"), upstream.count(f"/kept/other-{name}")) == (1, 1)


def pages(replicas: tuple[Gateway, Gateway], name: str) -> list[bytes]:
    """Ask all workers for a page; return the answers."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(replicas[n % 2].ask, f"/page/{name}") for n in range(16)]
        return [one.result().body for one in asked]


def test_a_call_that_changes_something_makes_parts_void(
    replicas: tuple[Gateway, Gateway], upstream: Counting
) -> None:
    """In every worker, and for what the call was about alone."""
    pages(replicas, "y")
    kept, other = upstream.count("/kept/y"), upstream.count("/kept/other-y")
    assert replicas[0].ask("/change/y", method="POST").status == 200
    # What is stored before the change has its place in the order of all replicas may go again.
    until(lambda: pages(replicas, "y") and upstream.count("/kept/y") >= kept + 2, "asked again")
    until(
        lambda: upstream.count("/kept/y") == (pages(replicas, "y"), upstream.count("/kept/y"))[1],
        "it is stored again",
    )
    assert upstream.count("/kept/other-y") <= other + 1


def test_what_stands_in_for_a_failed_call_is_shared(
    replicas: tuple[Gateway, Gateway], upstream: Counting
) -> None:
    """By its call's `stale`, past what the answer allowed itself."""
    one, two = replicas
    assert json.loads(two.ask("/short").body) == "some"
    BROKEN.set()
    until(lambda: two.ask("/short") and upstream.count("/short") > 1, "it isn't fresh any more")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: one.ask("/short"), range(16)))
    assert {json.loads(reply.body) for reply in replies} == {"some"}


def test_parts_without_redis(
    replicas: tuple[Gateway, Gateway], upstream: Counting, redis: RedisServer
) -> None:
    """Without it answers are composed all the same, from calls."""
    redis.kill()
    try:
        for number in range(5):
            reply = replicas[number % 2].ask(f"/page/without-{number}")
            assert json.loads(reply.body)["kept"] == f"/kept/without-{number}"
    finally:
        redis.start()
    assert upstream.count("/kept/without-0") == 1
