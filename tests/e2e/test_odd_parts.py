"""Parts that are odd, and what they mean for their own answer, and for nobody else's."""

# ruff: noqa: E501 - a call of the gateway file below is one line

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client import ask
from tests.support.counting import Counting, Got, Say, counting
from tests.support.places import free_port
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """
upstreams:
  u: {endpoints: ["http://127.0.0.1:UPSTREAM"], timeout: 5s}
  one: {endpoints: ["http://127.0.0.1:UPSTREAM"], concurrency: 1}
  passing: {endpoints: ["http://127.0.0.1:UPSTREAM"], forward_credentials: true}
  dead: {endpoints: ["http://127.0.0.1:DEAD"]}
  hasty: {endpoints: ["http://127.0.0.1:UPSTREAM"], timeout: 200ms}
decisions: {file: records.jsonl}
authentication: {keys: {api_key: {file: keys.jsonl}}}
consumers: {phones: {when: 'request.headers["user-agent"].contains("Phone")', view: phone}}
defaults: {authentication: none}
routes:
  - name: good
    match: {path: "/good/{id}"}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/slow/{request.params.id}"}}, response: one}
  - name: odd
    match: {path: "/odd/{id}"}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/odd/{request.params.id}", required: false, default: D}}, response: "{one: one}"}
  - name: xml
    match: {path: "/xml/{id}"}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/odd/{request.params.id}", format: xml, required: false, default: D}}, response: "{one: one}"}
  - name: hidden                   # the fallback's need is left out, but the call failed
    match: {path: /hidden}
    aggregate: {deadline: 8s, calls: {b: {upstream: u, path: /b, when: "false"}, a: {upstream: u, path: /fails, fallback: {upstream: u, path: "/p/{b.id}"}}}, response: "{a: a, b: b}"}
  - name: lacking                  # n has no id; b, which is left out, isn't to blame
    match: {path: /lacking}
    aggregate: {deadline: 8s, calls: {n: {upstream: u, path: /n}, b: {upstream: u, path: /b, when: "false"}, a: {upstream: u, path: "/q/{n.id}?y={b.y}"}}, response: "{a: a, b: b}"}
  - name: left
    match: {path: /left}
    aggregate: {deadline: 8s, calls: {n: {upstream: u, path: /n}, b: {upstream: u, path: /b, when: "false"}, a: {upstream: u, path: "/q/{b.y}/{n.name}"}}, response: "{a: a, b: b}"}
  - name: asked
    match: {path: /asked}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/q/{request.query.id}"}, two: {upstream: u, path: '/q/{request.headers["x-" + "two"]}'}}, response: "{one: one, two: two}"}
  - name: charges
    match: {path: /charges, methods: [POST]}
    aggregate:
      calls:
        order: {upstream: u, method: POST, path: "/order", body: {}}
        one: {upstream: u, method: POST, path: "/charge/{order.a}", body: {n: 1}}
        two: {upstream: u, method: POST, path: "/charge/{order.b}", body: {n: 2}, fallback: {upstream: u, method: POST, path: /charge/else, body: {n: 3}}}
        items: {upstream: u, method: POST, path: "/ship/{key}", each: order.items, body: {}}
        chunks: {upstream: u, method: POST, path: "/ships", each: order.items, batch: {size: 2, by: position}, body: {keys: "{keys}"}}
        named: {upstream: u, method: POST, path: /named, headers: {idempotency-key: mine, content-type: application/merge-patch+json, accept: application/vnd.v2+json}, body: {}}
      response: "{all: [one, two, items, chunks, named]}"
  - name: turns
    match: {path: /turns}
    aggregate: {deadline: 8s, calls: {a: {upstream: one, path: /turn}, b: {upstream: one, path: /turn}, c: {upstream: one, path: /turn}}, response: "[a, b, c]"}
  - name: numbers
    match: {path: /numbers}
    aggregate: {deadline: 8s, calls: {n: {upstream: u, path: /n}, items: {upstream: u, path: "/items?ids={keys}", each: n.ids, batch: {key: id}}}, response: "n.ids[].lookup('items', @).name"}
  - name: late
    match: {path: "/late/{id}"}
    aggregate: {deadline: 1500ms, calls: {n: {upstream: u, path: /n}, items: {upstream: u, path: "/{request.params.id}/{key}", each: n.ids, required: false}}, response: "items"}
  - name: spoken
    match: {path: "/spoken/{id}"}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/spoken/{request.params.id}"}}, response: one}
  - name: read
    match: {path: /read}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: '/q/{request.headers["x-org"]}', when: '"x-when" in request.headers', fallback: {upstream: u, path: '/q?{request.headers["x-else"]}'}}}, view: {header: x-view}, response: one, views: {small: one.path}}
  - name: watched
    match: {path: /watched}
    aggregate: {deadline: 8s, calls: {one: {upstream: passing, path: /q}}, response: one, views: {phone: one.path}}
  - name: shaped
    match: {path: /shaped}
    upstream: u
    response: {body: path, views: {phone: "[path]"}}
  - name: broken
    match: {path: "/broken/{how}"}
    aggregate: {deadline: 8s, calls: {dead: {upstream: dead, path: /x, required: false}, cut: {upstream: u, path: /cut, required: false}, hangs: {upstream: hasty, path: /hangs/7, required: false}, said: {upstream: u, path: /fails, required: false}}, response: "[dead, cut, hangs, said]"}
  - name: together
    match: {path: /together}
    aggregate: {deadline: 4s, max_bytes: 100KiB, calls: {one: {upstream: u, path: /most/1}, two: {upstream: u, path: /most/2}}, response: "[one, two]"}
  - name: orders
    match: {path: "/orders/{id}"}
    aggregate: {deadline: 8s, calls: {one: {upstream: u, path: "/slow/{request.params.id}"}}, response: one}
"""
LONG = b"12345678901234567890"
ODD = {
    "deep": b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b', "b": ' + LONG + b"}",
    "deeper": b"[" * 400 + b"]" * 400,
    "utf7": b'<?xml version="1.0" encoding="utf-7"?><a>+AOk-</a>',
    "rot13": b'<?xml version="1.0" encoding="rot13"?><a>1</a>',
}

SAYS = {
    "/n": Say({"name": "n", "ids": [7.0, 8, "9"]}),
    "/items": Say([{"id": n, "name": f"n{n}"} for n in (9, 8, 7)]),
    "/order": Say({"a": "x", "b": "y", "items": [5, "a/b", 6]}),
    "/spoken/silent": Say(1, headers={"cache-control": "max-age=60"}),
    "/spoken/both": Say(
        1, headers={"cache-control": "max-age=60", "vary": "Accept-Language, X-Request-Id"}
    ),
    "/shaped": Say({"path": 1}, headers={"cache-control": "max-age=60", "vary": "x-own"}),
    "/fails": Say(status=500),
    "/most/1": Say(body=b"x" * 60_000, length=90_000),
    "/most/2": Say(body=b"x" * 60_000, length=90_000),
    "/slow/new": Say(1, after=3),
    "/cut": Say(body=b"", length=10, then="close"),
    "/charge/y": Say(status=500),
    "/turn": Say({"n": 1}, after=0.1),
    "/stops/7": Say(status=500),
    "/stops/8": Say(status=500),
    "/stops/9": Say(status=500),
    "/hangs/7": Say(then="hang"),
    "/hangs/8": Say(then="hang"),
    "/hangs/9": Say(then="hang"),
}


def answer(got: Got) -> Say:
    """Answer, some slowly and some oddly."""
    if got.path == "/ships":
        return Say(got.json["keys"])
    if got.path.startswith("/odd/"):
        return Say(body=ODD[got.path.rpartition("/")[2]])
    slowly = 0.3 if got.path.startswith("/slow/") else 0.0
    return SAYS.get(got.path) or Say({"path": got.path}, after=slowly)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(answer) as running:
        yield running


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run a gateway."""
    with gateway(
        TEXT.replace("UPSTREAM", str(upstream.port)).replace("DEAD", str(free_port())),
        {"keys.jsonl": ""},
    ) as running:
        yield running


@pytest.mark.parametrize("target", ["/odd/deep", "/odd/deeper", "/xml/utf7", "/xml/rot13"])
def test_an_odd_part_is_nobody_elses_trouble(
    place: Gateway, upstream: Counting, target: str
) -> None:
    """The default stands in, and calls that share the way to Envoy go on."""
    upstream.got.clear()
    name = target.strip("/").replace("/", "-")
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(place.ask, f"/good/{name}-{n}") for n in range(8)]
        until(lambda: len(upstream.got) == 8, "eight are under way")
        reply = place.ask(target)
        assert (reply.status, reply.json) == (200, {"one": "D"})
        assert {one.result().status for one in good} == {200}


def test_what_arrives_at_once_is_bounded(place: Gateway) -> None:
    """Neither is too large, nor at its end: the second one fails when both together are."""
    reply = place.ask("/together")
    assert (reply.status, reply.reason) == (502, "part_failed")


def test_a_failure_stays_one(place: Gateway) -> None:
    """What is left out explains a missing value only where the value is of what was left out."""
    for target in ("/hidden", "/lacking"):
        assert (place.ask(target).status, place.ask(target).reason) == (502, "part_failed"), target
    reply = place.ask("/left")
    assert (reply.status, reply.json) == (200, {"a": None, "b": None})


def test_what_the_request_lacks_is_the_clients_mistake(place: Gateway) -> None:
    """400 as anywhere else, with a name where that is all the expression says."""
    reply = place.ask("/asked", headers={"x-two": "2"})
    assert (reply.status, reply.reason) == (400, "malformed")
    assert reply.json["detail"] == "The part one needs request.query.id, which isn't there."
    reply = place.ask("/asked?id=1")
    assert reply.json["detail"] == "The part two needs something of the request, which isn't there."
    assert place.ask("/asked?id=1", headers={"x-two": "2"}).status == 200


def test_an_upstream_knows_a_change_again(place: Gateway, upstream: Counting) -> None:
    """One key for each change, the same at a retry, whatever else is in the list then."""

    def keys() -> dict[str, str]:
        upstream.got.clear()
        reply = place.ask("/charges", method="POST", body=b"", headers={"idempotency-key": "k"})
        assert reply.status == 200, reply.body
        return {
            got.target + got.body.decode(): got.headers["idempotency-key"] for got in upstream.got
        }

    first = keys()
    assert first["/order{}"] == "k"
    assert first['/charge/x{"n":1}'] == "k-one"
    assert first['/charge/y{"n":2}'] == "k-two"
    assert first['/charge/else{"n":3}'] == "k-two-fallback"  # to which the holes may lead too
    assert first["/ship/5{}"] == "k-items-5"
    assert first["/named{}"] == "mine"
    usual = SAYS["/order"]
    SAYS["/order"] = Say({"a": "x", "b": "y", "items": [6, 5]})
    second = keys()
    SAYS["/order"] = usual
    same = first.keys() & second.keys()
    assert {"/ship/5{}", "/ship/6{}"} <= same
    assert {target: first[target] for target in same} == {target: second[target] for target in same}


def test_a_header_of_the_call_takes_the_place_of_the_usual_one(
    place: Gateway, upstream: Counting
) -> None:
    """Versioned media types and patches are told by them."""
    upstream.got.clear()
    place.ask("/charges", method="POST", body=b"", headers={"idempotency-key": "k"})
    (named,) = (got for got in upstream.got if got.path == "/named")
    assert named.headers["content-type"] == "application/merge-patch+json"
    assert named.headers["accept"] == "application/vnd.v2+json"


def test_equal_calls_that_wait_for_their_turn_are_one(place: Gateway, upstream: Counting) -> None:
    """Three clients, three calls, whatever waits before the upstream's `concurrency`."""
    upstream.got.clear()
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda n: place.ask(f"/turns?{n}"), range(3)))
    assert [reply.json for reply in replies] == [[{"n": 1}] * 3] * 3
    assert upstream.count("/turn") <= 3


def test_numbers_are_found_as_they_are_asked_for(place: Gateway, upstream: Counting) -> None:
    """7.0 is asked for as 7 and found as 7."""
    upstream.got.clear()
    assert place.ask("/numbers").json == ["n7", "n8", "n9"]
    assert upstream.got[-1].query["ids"] == ["7,8,9"]


@pytest.mark.parametrize("how", ["stops", "hangs"])
def test_a_list_of_which_nothing_came_is_a_list(place: Gateway, how: str) -> None:
    """Of nulls, whether its calls failed or their time was over."""
    reply = place.ask(f"/late/{how}")
    assert (reply.status, reply.json) == (200, [None, None, None])
    assert reply.headers["x-gateway-partial"] == "items"


def test_nobody_waits_for_what_is_hardly_ever_for_others(
    place: Gateway, upstream: Counting
) -> None:
    """A wait and a call take twice the time of one, which may be more than there is."""
    for number in range(3):
        assert place.ask(f"/orders/{number}").status == 200
    upstream.got.clear()
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(place.ask, "/orders/new") for _ in range(6)]
        until(lambda: upstream.count("/slow/new") == 6, "all are under way", 2.5)
        assert {reply.result().status for reply in replies} == {200}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/spoken/silent", ""),
        ("/spoken/both", "accept-language"),
        ("/read", "x-else, x-org, x-view, x-when"),
        ("/watched", "user-agent, x-api-key"),
        ("/shaped", "user-agent, x-own"),
    ],
)
def test_caches_further_on_hear_what_makes_a_difference(
    place: Gateway, target: str, expected: str
) -> None:
    """Else they give one client's answer to another (RFC 9110 section 12.5.5)."""
    headers = {"x-org": "o", "x-when": "1", "x-else": "e", "user-agent": "Phone"}
    reply = place.ask(target, headers=headers)
    assert reply.status == 200
    said = [part.strip() for part in reply.headers.get("vary", "").split(",")]
    assert sorted(said) == expected.split(", ")


def counts(place: Gateway, line: str) -> bool:
    """Say whether something is counted."""
    return line in ask(place.admin, "/metrics").body.decode()


def test_what_went_wrong_is_told(place: Gateway) -> None:
    """By record and metrics: nobody was reached, nobody answered in time, or the upstream said so."""
    reply = place.ask("/broken/x")
    assert (reply.status, reply.json) == (200, [None] * 4)
    expected = {"dead": "connect", "cut": "protocol", "hangs": "timeout", "said": "status"}

    def told() -> bool:
        records = records_in(place.folder / "records.jsonl")
        calls = [r["calls"] for r in records if r["path"] == "/broken/x"]
        return [{c["part"]: c["outcome"] for c in one} for one in calls] == [expected]

    until(told, "the record says so")
    counted = ask(place.admin, "/metrics").body.decode()
    for upstream, outcome in (("dead", "connect"), ("hasty", "timeout"), ("u", "protocol")):
        line = f'extproc_calls_total{{outcome="{outcome}",upstream="{upstream}"}}'
        until(partial(counts, place, line), line)
    assert 'outcome="ok",upstream="dead"' not in counted
