"""Calls through a real Envoy, against upstreams that count."""

# ruff: noqa: E501 - a call of the gateway file below is one line

from __future__ import annotations

import json
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import ask
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = 250
TEXT = """version: 1
listener: {address: "127.0.0.1:PORT"}
admin: {address: "127.0.0.1:ADMIN"}
upstreams:
  shop: {endpoints: ["http://127.0.0.1:SHOP"], timeout: 5s}
  other: {endpoints: ["http://127.0.0.1:SHOP"], identity: none}
  narrow: {endpoints: ["http://127.0.0.1:SHOP"], concurrency: 2}
  itself: {endpoints: ["http://127.0.0.1:PORT"]}
  dead: {endpoints: ["http://127.0.0.1:1"]}
decisions: {file: records.jsonl}
identity: {headers: {x-user: "{principal.subject}", x-kind: "{principal.kind}"}}
defaults: {authentication: none}
routes:
  - name: home
    match: {path: /home}
    aggregate:
      calls:
        profile: {upstream: shop, path: "/users/{request.query.user}"}
        orders: {upstream: shop, path: "/orders?user={profile.id}"}
        products: {upstream: shop, each: "orders[].lines[].product", batch: {path: "/products?ids={keys}", size: 50, key: id}}
        ads: {upstream: shop, path: /ads, required: false, default: [], timeout: 300ms}
      response: "{name: profile.name, lines: orders[].lines[].{n: n, product: lookup('products', product)}, ads: ads}"
      views: {small: "{name: profile.name}", middle: "{name: profile.name, orders: orders[].id}"}
      view: {query: view}
      fields: fields
  - name: many
    match: {path: /many}
    aggregate:
      calls:
        numbers: {upstream: shop, path: /keys}
        products: {upstream: shop, each: "numbers", batch: {path: "/products?ids={keys}", size: 50, key: id}}
      response: "products[].id"
  - name: chosen
    match: {path: /chosen, methods: [GET, POST]}
    aggregate:
      calls:
        products: {upstream: shop, each: "request.body.ids || split(request.queries.ids[0], ',')", batch: {path: "/products?ids={keys}", size: 2, key: id}}
      response: "products[].title"
  - name: once
    match: {path: /once}
    aggregate: {calls: {a: {upstream: shop, path: /ads}}, response: "a"}
  - name: twice
    match: {path: /twice}
    aggregate:
      calls:
        a: {upstream: shop, path: /same}
        b: {upstream: shop, path: /same}
        c: {upstream: other, path: /same}
      response: "[a.n, b.n, c.n]"
  - name: alike
    match: {path: /alike}
    aggregate:
      calls:
        hasty: {upstream: shop, path: /same, timeout: 20ms, required: false}
        frugal: {upstream: shop, path: /same, max_bytes: 4B, required: false}
        patient: {upstream: shop, path: /same, timeout: 2s}
        twice: {upstream: shop, path: /same, timeout: 20ms, fallback: {upstream: shop, path: /same, timeout: 3s}}
      response: "[hasty.n, frugal.n, patient.n, twice.n]"
  - name: when
    match: {path: /when}
    aggregate:
      calls:
        profile: {upstream: shop, path: "/users/{request.query.user}"}
        gold: {upstream: shop, path: "/gold/{profile.id}", when: 'profile.tier == "gold"'}
      response: "{gold: gold}"
  - name: hanging
    match: {path: /hanging}
    aggregate:
      deadline: 300ms
      calls:
        quick: {upstream: shop, path: /ads}
        stuck: {upstream: shop, path: /hang, required: false}
      response: "{quick: quick, stuck: stuck}"
  - name: needed
    match: {path: /needed}
    aggregate:
      deadline: 300ms
      calls:
        quick: {upstream: shop, path: /ads}
        stuck: {upstream: shop, path: /hang}
      response: "{quick: quick, stuck: stuck}"
  - name: failing
    match: {path: /failing}
    aggregate:
      calls:
        stuck: {upstream: shop, path: /hang}
        broken: {upstream: shop, path: /broken}
      response: "{stuck: stuck, broken: broken}"
  - name: main
    match: {path: "/main/{id}"}
    aggregate:
      calls:
        item: {upstream: shop, path: "/items/{request.params.id}", statuses: {"409": 409, "429": 503}}
        ads: {upstream: shop, path: /ads}
      response: "{item: item, ads: ads}"
  - name: fallback
    match: {path: /fallback}
    aggregate:
      calls:
        item: {upstream: dead, path: /x, fallback: {upstream: shop, path: /ads}}
      response: "item"
  - name: singles
    match: {path: /singles}
    aggregate:
      calls:
        item: {upstream: narrow, each: "`[1, 2, 3, 4, 404, 2]`", path: "/slow/{key}"}
      response: "{all: item, two: lookup('item', `2`), none: lookup('item', `404`)}"
  - name: odd-keys
    match: {path: /odd-keys}
    aggregate: {calls: {item: {upstream: shop, each: '`[1, "..", ".", "", 2]`', path: "/slow/{key}"}}, response: "item"}
  - name: odd-changes
    match: {path: /odd-changes}
    aggregate: {calls: {item: {upstream: shop, method: PUT, each: '`[1, ".."]`', path: "/slow/{key}"}}, response: "item"}
  - name: many-changes
    match: {path: /many-changes}
    aggregate:
      calls: {item: {upstream: shop, method: PUT, each: '`[1, 2, 3, 4]`', path: "/slow/{key}"}}
      max_calls: 3
      response: "item"
  - name: odd-optional
    match: {path: /odd-optional}
    aggregate:
      calls: {item: {upstream: shop, method: PUT, each: '`[1, ".."]`', path: "/slow/{key}", required: false}}
      response: "item"
  - name: kept
    match: {path: /kept}
    aggregate:
      calls: {item: {upstream: shop, each: request.queries.id, path: "/{key}/600", required: false}}
      response: "{item: item}"
  - name: silent-changes
    match: {path: /silent-changes}
    aggregate:
      calls: {item: {upstream: shop, method: PUT, each: '`[200, 201, 202, 204, 205]`', path: "/silent/{key}"}}
      response: "{item: item}"
  - name: silent
    match: {path: "/silent/{status}"}
    aggregate: {calls: {item: {upstream: shop, path: "/silent/{request.params.status}"}}, response: "{item: item}"}
  - name: post
    match: {path: /post, methods: [POST]}
    aggregate:
      calls:
        order: {upstream: shop, method: POST, path: /orders, body: {items: "{request.body.basket}", note: "for {request.body.name}"}}
        mail: {upstream: shop, method: POST, path: /mails, body: {order: "{order.id}"}, required: false}
      response: "{id: order.id, mail: mail}"
  - name: large
    match: {path: /large}
    aggregate:
      calls:
        page: {upstream: shop, path: /page}
      response: "page"
  - name: bounded
    match: {path: /bounded}
    aggregate:
      max_calls: 3
      calls:
        item: {upstream: shop, each: "`[1, 2, 3, 4]`", path: "/slow/{key}", required: false}
      response: "item"
  - name: fresh
    match: {path: /fresh}
    aggregate:
      calls:
        a: {upstream: other, path: /fresh/60}
        b: {upstream: other, path: /fresh/20}
      response: "[a, b]"
  - name: mixed
    match: {path: /mixed}
    aggregate:
      calls:
        a: {upstream: other, path: /fresh/60}
        b: {upstream: other, path: /never}
      response: "[a, b]"
  - name: stale
    match: {path: /stale}
    aggregate:
      calls: {a: {upstream: other, path: /brief, stale: 1m}}
      response: "a"
  - name: crowd
    match: {path: /crowd}
    aggregate:
      calls: {a: {upstream: other, path: /crowd}}
      response: "a"
  - name: loop
    match: {path: /loop}
    aggregate:
      calls:
        again: {upstream: itself, path: /loop}
      response: "again"
"""


def shop(got: Got) -> Say:
    """Answer as a shop."""
    for beginning, answer in ANSWERS.items():
        if got.path.startswith(beginning):
            return answer(got, got.path.removeprefix(beginning))
    return Say({"path": got.path})


def user(_got: Got, name: str) -> Say:
    """Return a user."""
    return Say({"id": name, "name": name.title(), "tier": "gold" if name == "rich" else "none"})


def orders(got: Got, _rest: str) -> Say:
    """List orders of 120 lines; or place one."""
    if got.method == "POST":
        return placed(got, _rest)
    lines = [{"product": n % 60, "n": n} for n in range(120)]
    return Say([{"id": 1, "lines": lines[:70]}, {"id": 2, "lines": lines[70:]}])


def placed(got: Got, _rest: str) -> Say:
    """Take what was sent."""
    return Say({"id": 9, "got": got.json}, status=201)


def products(got: Got, _rest: str) -> Say:
    """Answer in another order, without 13, with one that nobody asked for."""
    ids = [int(text) for text in got.query["ids"][0].split(",")]
    return Say([{"id": n, "title": f"p{n}"} for n in reversed(ids) if n != 13] + [{"id": -1}])


def slow(_got: Got, key: str) -> Say:
    """Take 50 ms; there is no 404."""
    return Say({"key": int(key)}, status=404 if key == "404" else 200, after=0.05)


def item(_got: Got, status: str) -> Say:
    """Answer with a status; whatever it is, it may be tried again."""
    told = {"retry-after": "7"}
    return Say({}, status=int(status) if status.isdecimal() else 200, headers=told)


def silent(_got: Got, status: str) -> Say:
    """Answer with nothing, and name the coding that it would have."""
    return Say(status=int(status), headers={"content-encoding": "gzip"}, body=b"")


def fresh(got: Got, seconds: str) -> Say:
    """Name a lifetime."""
    return Say(got.path, headers={"cache-control": f"max-age={seconds}"})


ANSWERS: dict[str, Callable[[Got, str], Say]] = {
    "/users/": user,
    "/orders": orders,
    "/products": products,
    "/keys": lambda _got, _rest: Say([*range(KEYS), *range(KEYS)]),
    "/fresh/": fresh,
    "/slow/": slow,
    "/brief": lambda _got, _rest: Say({"n": 1}, headers={"cache-control": "max-age=1"}),
    "/crowd": lambda _got, _rest: Say(1, headers={"cache-control": "max-age=60"}, after=0.3),
    "/items/": item,
    "/silent/": silent,
    "/mails": placed,
    "/hang": lambda _got, _rest: Say(then="hang"),
    "/broken": lambda _got, _rest: Say(body=b"{", after=0.1),
    "/same": lambda _got, _rest: Say({"n": 1}, after=0.05),
    "/page": lambda _got, _rest: Say({"text": "x" * 3_000_000}),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(shop) as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway; one upstream of it is itself."""
    with gateway(TEXT.replace("SHOP", str(upstream.port)), whole=True) as started:
        yield started


@pytest.fixture
def place(running: Gateway, upstream: Counting) -> Gateway:
    """Return the gateway; counting begins anew, once what was given up before has arrived."""
    assert running.ask("/once").status == 200
    upstream.forget()
    return running


def records(place: Gateway) -> list[dict[str, Any]]:
    """Return the decision records so far."""
    return records_in(place.folder / "records.jsonl")


class TestHowManyCalls:
    def test_dependent_calls_and_a_join(self, place: Gateway, upstream: Counting) -> None:
        """120 lines name 60 products: two chunks; the missing one is null, another is ignored."""
        reply = place.ask("/home?user=ann")
        assert reply.status == 200, reply.body
        assert upstream.count("/users/ann") == upstream.count("/orders") == 1
        assert upstream.count("/products") == 2
        assert len(upstream.got) == 5
        asked = [got.query["ids"][0].split(",") for got in upstream.got if got.path == "/products"]
        assert [len(ids) for ids in asked] == [50, 10]
        lines = reply.json["lines"]
        assert [line["n"] for line in lines] == list(range(120))
        assert [line["product"] for line in lines] == [
            None if n % 60 == 13 else {"id": n % 60, "title": f"p{n % 60}"} for n in range(120)
        ]
        assert "x-gateway-partial" not in reply.headers

    @pytest.mark.parametrize(
        ("method", "target", "body"),
        [("GET", "/chosen?ids=3,1,3,2", b""), ("POST", "/chosen", b'{"ids": [3, 1, "3", 2]}')],
    )
    def test_keys_that_the_client_chooses(
        self, place: Gateway, upstream: Counting, method: str, target: str, body: bytes
    ) -> None:
        """Out of the body or the query: each once, in chunks, in the client's order."""
        reply = place.ask(target, method=method, body=body)
        assert (reply.status, reply.json) == (200, ["p3", "p1", "p2"])
        asked = [got.query["ids"][0] for got in upstream.got]
        assert sorted(asked) == ["2", "3,1"]

    def test_keys_that_are_none(self, place: Gateway, upstream: Counting) -> None:
        """The client is told what is missing where; nothing is called."""
        assert place.ask("/chosen").status == 400
        assert place.ask("/chosen", method="POST", body=b"[]").status == 400
        many = json.dumps({"ids": [*range(300)]}).encode()
        reply = place.ask("/chosen", method="POST", body=many)
        assert (reply.status, b"products" in reply.body) == (400, True)
        assert place.ask("/once").status == 200
        assert upstream.paths() == ["/ads"]

    def test_250_keys_in_chunks_of_50(self, place: Gateway, upstream: Counting) -> None:
        """Five bulk calls, whatever their order; each key once, order kept."""
        reply = place.ask("/many")
        assert reply.json == [n for n in range(KEYS) if n != 13]
        assert upstream.count("/products") == 5
        assert len(upstream.got) == 6

    def test_equal_calls_are_made_once(self, place: Gateway, upstream: Counting) -> None:
        """Another upstream is another call, and so is one that is told something else."""
        assert place.ask("/twice").json == [1, 1, 1]
        assert len(upstream.got) == 2

    def test_equal_calls_with_other_bounds(self, place: Gateway) -> None:
        """Each has its own time and size, and what failed is asked for again by a fallback."""
        assert place.ask("/alike").json == [None, None, 1, 1]

    @pytest.mark.parametrize(
        ("query", "paths"),
        [
            ("&view=small", ["/users/ann"]),
            ("&view=middle", ["/users/ann", "/orders"]),
            ("&fields=name", ["/users/ann"]),
            ("&fields=name,ads", ["/ads", "/users/ann"]),
            ("&fields=lines.n", ["/users/ann", "/orders"]),
            ("&view=middle&fields=name", ["/users/ann"]),
        ],
    )
    def test_what_nobody_reads_is_not_called(
        self, place: Gateway, upstream: Counting, query: str, paths: list[str]
    ) -> None:
        """A view and named fields prune calls, and their results."""
        reply = place.ask(f"/home?user=ann{query}")
        assert reply.status == 200
        assert sorted(upstream.paths()) == sorted(paths)
        if "fields=lines.n" in query:
            assert reply.json["lines"][3] == {"n": 3}

    def test_fields_that_are_no_names(self, place: Gateway, upstream: Counting) -> None:
        """400, and nothing is called."""
        for fields in ("a[0]", "a%00", "name||x", ",".join(f"f{n}" for n in range(100))):
            assert place.ask(f"/home?user=ann&fields={fields}").status == 400
        assert not upstream.got

    def test_a_condition(self, place: Gateway, upstream: Counting) -> None:
        """A call whose condition isn't true isn't made; its part is null and not missing."""
        assert place.ask("/when?user=poor").json == {"gold": None}
        assert upstream.paths() == ["/users/poor"]
        reply = place.ask("/when?user=rich")
        assert reply.json == {"gold": {"path": "/gold/rich"}}
        assert "x-gateway-partial" not in reply.headers

    def test_single_calls_for_keys(self, place: Gateway, upstream: Counting) -> None:
        """Each key once, at most two at once for this upstream; a 404 is null."""
        began = time.monotonic()
        reply = place.ask("/singles")
        assert reply.json == {
            "all": [{"key": 1}, {"key": 2}, {"key": 3}, {"key": 4}, None],
            "two": {"key": 2},
            "none": None,
        }
        assert sorted(upstream.paths()) == ["/slow/1", "/slow/2", "/slow/3", "/slow/4", "/slow/404"]
        assert time.monotonic() - began > 0.14  # five of 50 ms, two at once: three rounds

    def test_keys_that_no_path_leads_to(self, place: Gateway, upstream: Counting) -> None:
        """Of those there is nothing; a call that changes something fails."""
        reply = place.ask("/odd-keys")
        assert reply.json == [{"key": 1}, None, None, {"key": 2}]  # "" is no key
        assert sorted(upstream.paths()) == ["/slow/1", "/slow/2"]

    @pytest.mark.parametrize("route", ["/odd-changes", "/many-changes"])
    def test_all_changes_or_none(self, place: Gateway, upstream: Counting, route: str) -> None:
        """What shows before the first of them that the last can't be made: none is."""
        assert place.ask(route).status == 502
        assert place.ask("/once").status == 200  # a call that had left would be there by now
        assert "PUT" not in [got.method for got in upstream.got]

    def test_changes_that_are_not_required(self, place: Gateway, upstream: Counting) -> None:
        """Those that can be made are."""
        reply = place.ask("/odd-optional")
        assert reply.json == [{"key": 1}, None]
        assert reply.headers["x-gateway-partial"] == "item"
        assert upstream.paths() == ["/slow/1"]

    def test_changes_that_are_answered_with_nothing(self, place: Gateway) -> None:
        """Each was carried out, so none failed; what is asked for is there, or has failed."""
        reply = place.ask("/silent-changes")
        assert (reply.status, reply.json) == (200, {"item": [None] * 5})
        assert place.ask("/silent/204").json == {"item": None}
        assert place.ask("/silent/200").status == 502

    @staticmethod
    def _told_of(place: Gateway, request: str | None) -> list[dict[str, Any]]:
        return [one for one in records(place) if one["request_id"] == request]

    def test_the_record_of_a_list(self, place: Gateway) -> None:
        """`hit` where all were stored, what went wrong where one failed, else `ok`."""
        told = []
        for query in ("id=fresh", "id=fresh", "id=fresh&id=broken", "id=fresh&id=404"):
            reply = place.ask(f"/kept?{query}")
            assert reply.status == 200
            request = reply.headers["x-request-id"]
            until(partial(self._told_of, place, request), "it is recorded")
            told.append(self._told_of(place, request)[0]["calls"][0]["outcome"])
        assert told == ["ok", "hit", "not_json", "ok"]

    def test_bound_on_calls(self, place: Gateway, upstream: Counting) -> None:
        """The fourth of three isn't made; the answer says that a part is missing."""
        reply = place.ask("/bounded")
        assert reply.headers["x-gateway-partial"] == "item"
        assert reply.json == [{"key": 1}, {"key": 2}, {"key": 3}, None]
        assert len(upstream.got) == 3

    def test_a_loop_ends(self, place: Gateway, upstream: Counting) -> None:
        """B10: an aggregation that calls itself goes four deep."""
        assert place.ask("/loop").status == 502
        loops = [r for r in until(lambda: records(place), "records") if r["route"] == "loop"]
        until(lambda: len([r for r in records(place) if r["route"] == "loop"]) >= 5, "records")
        loops = [r for r in records(place) if r["route"] == "loop"]
        assert len(loops) == 5
        assert sorted(r["status"] for r in loops) == [502, 502, 502, 502, 508]
        assert not upstream.got


class TestFailures:
    def test_status_of_the_main_part(self, place: Gateway) -> None:
        """404 and 410 pass, and what `statuses` says; the rest is a broken part."""
        assert place.ask("/main/fine").status == 200
        expected = {404: 404, 410: 410, 409: 409, 403: 502, 401: 502, 500: 502, 302: 502, 504: 504}
        for status, answer in expected.items():
            reply = place.ask(f"/main/{status}")
            assert reply.status == answer, status
            assert "item" in reply.json["detail"]
            assert "retry-after" not in reply.headers
        reply = place.ask("/main/429")
        assert (reply.status, reply.headers["retry-after"]) == (503, "7")

    def test_fallback(self, place: Gateway, upstream: Counting) -> None:
        """What stands in is told of."""
        reply = place.ask("/fallback")
        assert reply.json == {"path": "/ads"}
        assert reply.headers["x-gateway-partial"] == "item"
        assert reply.headers["cache-control"] == "no-store"
        assert upstream.paths() == ["/ads"]

    def test_an_optional_part_hangs(self, place: Gateway, upstream: Counting) -> None:
        """The answer comes at the deadline without it, and the call is given up at the upstream."""
        taken = []
        for _ in range(5):
            began = time.monotonic()
            reply = place.ask("/hanging")
            taken.append(time.monotonic() - began)
            assert reply.status == 200
            assert reply.json == {"quick": {"path": "/ads"}, "stuck": None}
            assert reply.headers["x-gateway-partial"] == "stuck"
        assert sorted(taken)[2] < 0.5
        assert min(taken) >= 0.29
        until(lambda: len(upstream.given_up) == 5, "every call is given up")

    def test_a_required_part_hangs(self, place: Gateway, upstream: Counting) -> None:
        """504 that names it."""
        reply = place.ask("/needed")
        assert reply.status == 504
        assert reply.reason == "part_deadline"
        assert "stuck" in reply.json["detail"]
        until(lambda: len(upstream.given_up) == 1, "the call is given up")

    def test_a_required_part_fails(self, place: Gateway, upstream: Counting) -> None:
        """The others are given up at once."""
        began = time.monotonic()
        reply = place.ask("/failing")
        assert (reply.status, reply.reason) == (502, "part_failed")
        assert time.monotonic() - began < 0.9
        until(lambda: len(upstream.given_up) == 1, "the other call is given up")

    def test_the_client_goes_away(self, place: Gateway, upstream: Counting) -> None:
        """Its calls are given up before the deadline."""
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            client.sendall(b"GET /failing HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: upstream.count("/hang") == 1, "the call is under way", 5)
        until(lambda: len(upstream.given_up) >= 1, "the call is given up", 0.9)


class TestWhatIsTold:
    def test_the_time_that_is_left(self, place: Gateway, upstream: Counting) -> None:
        """Shrinks inwards; an own timeout bounds it further."""
        place.ask("/home?user=ann")
        told = {
            got.path: int(got.headers["x-envoy-expected-rq-timeout-ms"]) for got in upstream.got
        }
        assert 900 <= told["/users/ann"] <= 1000
        assert told["/products"] <= told["/orders"] <= told["/users/ann"]
        assert told["/products"] < 1000  # the same millisecond may be left for two
        assert 250 <= told["/ads"] <= 300
        for got in upstream.got:
            assert "x-envoy-internal" not in got.headers
            assert "x-envoy-upstream-rq-timeout-ms" not in got.headers

    def test_identity_and_request_id(self, place: Gateway, upstream: Counting) -> None:
        """Identity only where it is sent; a client's credentials never."""
        headers = {"authorization": "Bearer secret", "cookie": "a=b", "x-user": "root"}
        reply = place.ask("/twice", headers=headers)
        for got in upstream.got:
            assert got.headers["x-request-id"] == reply.headers["x-request-id"]
            assert {"authorization", "cookie"}.isdisjoint(got.headers)
        assert sorted(got.headers.get("x-kind", "") for got in upstream.got) == ["", "anonymous"]

    def test_a_post_that_fans_out(self, place: Gateway, upstream: Counting) -> None:
        """Holes keep their type, and the idempotency key goes along."""
        body = json.dumps({"basket": [{"sku": "a", "n": 2}], "name": "Ann"}).encode()
        headers = {"content-type": "application/json", "idempotency-key": "k-1"}
        reply = ask(place.port, "/post", method="POST", headers=headers, body=body)
        assert reply.status == 200, reply.body
        assert reply.json["id"] == 9
        order, mail = upstream.got
        assert order.json == {"items": [{"sku": "a", "n": 2}], "note": "for Ann"}
        assert mail.json == {"order": 9}
        assert order.headers["idempotency-key"] == mail.headers["idempotency-key"] == "k-1"
        assert order.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"content-type": "application/vnd.shop+json; charset=UTF-8"}, 200),
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "application/json; charset=utf-16"}, 415),
            ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ],
    )
    def test_a_body_that_says_it_is_something_else(
        self, place: Gateway, upstream: Counting, headers: dict[str, str], status: int
    ) -> None:
        """Isn't read as JSON; as other sites' pages can send it, it changes nothing."""
        upstream.got.clear()
        body = b'{"basket": [1], "name": "ann"}'
        reply = ask(place.port, "/post", method="POST", body=body, headers=headers)
        assert reply.status == status
        assert bool(upstream.got) == (status == 200)

    def test_a_body_that_is_no_json(self, place: Gateway, upstream: Counting) -> None:
        """400, and nothing is called."""
        for body in (b"{", b'{"basket": 1, "basket": 2}', b"\xff", b"NaN"):
            reply = ask(place.port, "/post", method="POST", body=body)
            assert (reply.status, reply.reason) == (400, "malformed_body")
        assert not upstream.got

    def test_the_shortest_lifetime(self, place: Gateway) -> None:
        """A composed answer is fresh as long as its parts."""
        kind, _, seconds = place.ask("/fresh").headers["cache-control"].partition("=")
        assert kind == "max-age"
        assert 10 <= int(seconds) <= 20

    def test_fresh_parts_are_not_asked_for(self, place: Gateway, upstream: Counting) -> None:
        """An answer whose parts are all fresh makes no call; one part that isn't makes one."""
        first = place.ask("/fresh")
        upstream.forget()
        again = place.ask("/fresh")
        assert again.json == first.json
        assert not upstream.got
        outcomes = until(lambda: self._outcomes(place, again), "the record")
        assert outcomes == {"a": "hit", "b": "hit"}
        mixed = place.ask("/mixed")
        assert mixed.json == ["/fresh/60", {"path": "/never"}]
        assert upstream.paths() == ["/never"]
        assert "cache-control" not in mixed.headers

    def _outcomes(self, place: Gateway, reply: Any) -> dict[str, str]:
        request_id = reply.headers["x-request-id"]
        found = [r for r in records(place) if r["request_id"] == request_id]
        return {call["part"]: call["outcome"] for r in found for call in r["calls"]}

    @pytest.mark.parametrize(
        "bad",
        [
            Say(status=500),
            Say(status=429),
            Say(body=b"<html>", headers={"cache-control": "max-age=60"}),
        ],
    )
    def test_the_last_good_part_stands_in(
        self, place: Gateway, upstream: Counting, bad: Say
    ) -> None:
        """With `stale`: the answer isn't partial, and isn't kept by anybody."""
        assert place.ask("/stale").json == {"n": 1}
        upstream.answer = lambda _got: bad
        try:
            until(lambda: place.ask("/stale").headers.get("cache-control") == "no-store", "stale")
            reply = place.ask("/stale")
            assert reply.json == {"n": 1}
            assert "x-gateway-partial" not in reply.headers
        finally:
            upstream.answer = shop

    def test_equal_calls_of_many_requests_are_one(self, place: Gateway, upstream: Counting) -> None:
        """While one is under way, the others wait for it."""
        replies: list[Any] = []
        threads = [
            threading.Thread(target=lambda: replies.append(place.ask("/crowd"))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {reply.status for reply in replies} == {200}
        assert upstream.count("/crowd") == 1

    def test_records_and_metrics(self, place: Gateway) -> None:
        """Each part with what became of it, and how many calls a join took."""
        reply = place.ask("/home?user=ann")
        request_id = reply.headers["x-request-id"]

        def found() -> Any:
            return next((r for r in records(place) if r["request_id"] == request_id), None)

        record = until(found, "the record")
        assert {c["part"]: c["outcome"] for c in record["calls"]} == dict.fromkeys(
            ("profile", "orders", "products", "ads"), "ok"
        )
        assert next(c for c in record["calls"] if c["part"] == "products")["calls"] == 2
        counted = 'extproc_calls_total{outcome="ok",upstream="shop"}'
        until(
            lambda: counted in ask(place.admin, "/metrics").body.decode(), "the calls are counted"
        )


def test_a_large_answer_is_streamed(place: Gateway) -> None:
    """Three megabytes arrive whole."""
    reply = place.ask("/large")
    assert reply.status == 200
    assert len(reply.json["text"]) == 3_000_000
    assert reply.headers["content-type"] == "application/json"


def test_many_at_once_share_nothing(place: Gateway) -> None:
    """Each client gets what is its own."""
    wrong: list[str] = []

    def client(name: str) -> None:
        for _ in range(10):
            reply = place.ask(f"/home?user={name}&view=middle")
            if reply.status != 200 or reply.json["name"] != name.title():
                wrong.append(name)

    threads = [threading.Thread(target=client, args=(f"user{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
