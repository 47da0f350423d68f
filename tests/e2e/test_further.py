"""What answers tell caches further on, through a real Envoy: stored or not, they say the same."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from extproc.authentication import api_keys
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.client import Reply

SECRET, SALT = "s" * 43, "ab" * 16
PLUGINS = """
from extproc import Plugin

class Tenant(Plugin):
    def on_request(self, request):
        if "x-t" in request.headers:
            request.headers["x-tenant"] = request.headers["x-t"].upper()
"""
TEXT = """
upstreams: {a: {endpoints: ["http://127.0.0.1:UPSTREAM"], identity: none}}
authentication: {keys: {api_key: {file: keys.jsonl}}}
defaults: {authentication: none}
consumers: {phone: {when: 'CONDITION', view: mobile}}
routes:
  - name: plain
    match: {path: /plain, methods: [GET, HEAD]}
    upstream: a
    cache: {ttl: 30s}
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: direct
    match: {path: /direct}
    upstream: a
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: tagged
    match: {path: /tagged}
    upstream: a
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: tagged-cached
    match: {path: /tagged-cached}
    upstream: a
    cache: {}
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: one-shape
    match: {path: /tagged-once}
    upstream: a
    response: {body: "{v: v}"}
  - name: both
    match: {path: /both}
    cache: {}
    aggregate: {calls: {one: {upstream: a, path: /part}}, response: "{v: one.v}"}
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: bare
    match: {path: /bare}
    aggregate:
      calls: {one: {upstream: a, path: /part}}
      response: "{v: one.v}"
      views: {mobile: "{m: one.v}"}
  - name: from
    match: {path: /from}
    aggregate:
      calls: {one: {upstream: a, path: "/part?ip={request.address}"}}
      response: "{v: one.v}"
  - name: from-cached
    match: {path: /from-cached}
    cache: {}
    aggregate:
      calls: {one: {upstream: a, path: "/part?ip={request.address}"}}
      response: "{v: one.v}"
  - name: tenant
    match: {path: /tenant}
    plugins: [{use: "plugins.py:Tenant"}]
    aggregate:
      calls: {one: {upstream: a, path: "/part?t={request.headers['x-tenant']}"}}
      response: "{v: one.v}"
  - name: tenant-cached
    match: {path: /tenant-cached}
    plugins: [{use: "plugins.py:Tenant"}]
    cache: {}
    aggregate:
      calls: {one: {upstream: a, path: "/part?t={request.headers['x-tenant']}"}}
      response: "{v: one.v}"
  - name: named
    match: {path: "/named/{what}", methods: [GET]}
    upstream: a
    authentication: [keys, anonymous]
    response: {headers: {set: {x-user: "{principal.subject}"}}}
  - name: named-cached
    match: {path: "/named-cached/{what}", methods: [GET]}
    upstream: a
    authentication: [keys, anonymous]
    cache: {}
    response: {headers: {set: {x-user: "{principal.subject}"}}}
  - name: language
    match: {path: /language, methods: [GET]}
    upstream: a
    cache: {}
    response: {headers: {set: {x-language: '{request.headers["x-l"]}', x-path: "{request.path}"}}}
  - name: keyed
    match: {path: /keyed, methods: [GET]}
    upstream: a
    authentication: [keys, anonymous]
    cache: {}
    response: {body: "{v: v}", views: {mobile: "{m: v}"}}
  - name: silent
    match: {path: /silent}
    authentication: keys
    cache: {}
    aggregate: {calls: {one: {upstream: a, path: /nothing}}, response: "{v: one.v}"}
"""
TAG = '"1,a"'
PHONE = {"user-agent": "App/1"}
CONDITIONS = {
    "agents": 'request.headers["user-agent"].contains("App/")',
    "places": 'request.address == "192.0.2.1"',
}


def says(got: Got) -> Say:
    """Answer with a lifetime, as another type than what is made of it, but for one path."""
    headers = {"cache-control": "max-age=60", "content-type": "application/vnd.v+json"}
    if got.path.endswith("/moved"):
        return Say(None, 301, headers={"cache-control": "max-age=60", "location": "/"})
    if got.path == "/plain":
        headers |= {"cache-control": "public, max-age=60", "vary": "accept"}
    if got.path.startswith("/tagged"):
        headers["etag"] = TAG
        if TAG in got.headers.get("if-none-match", ""):
            return Say(status=304, headers=headers, body=b"")
    return Say({"v": 1}, headers={} if got.path == "/nothing" else headers)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(says) as server:
        yield server


@pytest.fixture(scope="module")
def places(upstream: Counting) -> Iterator[dict[str, Gateway]]:
    """Run a gateway whose consumers are told apart by a header, and one that goes by address."""
    ann = {"id": "ann", "hash": api_keys.digest(SECRET, SALT)}
    keys = "".join(
        json.dumps(ann | more) + "\n" for more in ({}, {"id": "bob", "consumer": "phone"})
    )
    files = {"keys.jsonl": keys, "plugins.py": PLUGINS}
    text = TEXT.replace("UPSTREAM", str(upstream.port))
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(gateway(text.replace("CONDITION", condition), files))
            for name, condition in CONDITIONS.items()
        }


def twice(place: Gateway, path: str, **headers: str) -> tuple[Reply, Reply]:
    """Ask twice; the second answer is out of the store."""
    one, two = (place.ask(path, headers=headers) for _ in range(2))
    assert "hit" not in one.headers["cache-status"]
    assert "hit" in two.headers["cache-status"]
    return one, two


def told(reply: Reply) -> tuple[set[str], set[str], str]:
    """Return what an answer varies by, how it may be reused but for its age, and its type."""
    varies = {name.strip() for name in reply.headers.get("vary", "").split(",")} - {"", ENCODING}
    control = {part.split("=")[0] for part in reply.headers.get("cache-control", "").split(", ")}
    return varies, control, reply.headers["content-type"]


ENCODING = "Accept-Encoding"  # Envoy's own, as it compresses


@pytest.mark.parametrize(
    ("path", "varies", "phones", "others"),
    [
        ("/plain", {"accept", "user-agent"}, {"public", "max-age"}, {"public", "max-age"}),
        ("/both", {"user-agent"}, {"private", "max-age"}, {"max-age"}),
    ],
)
def test_a_hit_says_what_a_miss_said(
    places: dict[str, Gateway], path: str, varies: set[str], phones: set[str], others: set[str]
) -> None:
    """By what views are told apart, and of which type they are."""
    place = places["agents"]
    for agent, body, control in (("App/1", {"m": 1}, phones), ("Browser/1", {"v": 1}, others)):
        one, two = twice(place, path, **{"user-agent": agent})
        assert one.json == two.json == body
        assert told(one) == told(two) == (varies, control, "application/json")
    # The key has the view: another client with the same one gets what is there.
    reply = place.ask(path, headers={"user-agent": "App/2"})
    assert (reply.json, "hit" in reply.headers["cache-status"]) == ({"m": 1}, True)
    assert told(reply)[0] == varies


def test_without_a_cache_views_are_told(places: dict[str, Gateway]) -> None:
    """As they were."""
    for path in ("/direct", "/bare"):
        reply = places["agents"].ask(path, headers=PHONE)
        assert reply.json == {"m": 1}
        varies, control, kind = told(reply)
        assert (varies, kind) == ({"user-agent"}, "application/json")
        assert ("private" in control) is (path == "/bare")  # of an aggregate, for a consumer


@pytest.mark.parametrize("path", ["/tagged", "/tagged-cached"])
def test_each_view_has_its_own_tag(places: dict[str, Gateway], path: str) -> None:
    """A client whose consumer changes isn't told that it has what it asks for."""
    place = places["agents"]
    tags: list[str] = []
    for agent, body in (("App/1", {"m": 1}), ("Browser/1", {"v": 1})):
        headers = {"user-agent": agent}
        reply = place.ask(path, headers=headers | {"if-none-match": ", ".join([TAG, *tags])})
        assert (reply.status, reply.json) == (200, body)
        tags.append(reply.headers["etag"])
        for known in (tags[-1], ", ".join(tags), f"W/{tags[-1]}", "*"):
            again = place.ask(path, headers=headers | {"if-none-match": known})
            if path == "/tagged" and known == "*":
                continue  # the upstream's to judge
            assert (again.status, again.headers["etag"]) == (304, tags[-1])
    assert len({TAG, *tags}) == 3


def test_what_upstreams_are_asked_by_is_their_own_tag(
    places: dict[str, Gateway], upstream: Counting
) -> None:
    """As If-None-Match that of this view, as If-Match that of any; dates don't take its place."""
    place = places["agents"]
    mobile, other = (place.ask("/tagged", headers=agent).headers["etag"] for agent in (PHONE, {}))
    since = {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}
    for sent, got in (
        ({"if-none-match": f"{other}, W/{mobile}"}, {"if-none-match": f"W/{TAG}"}),
        ({"if-none-match": other} | since, {}),
        ({"if-none-match": "*"} | since, {"if-none-match": "*"} | since),
        (since, since),
        ({"if-match": f"{other},{mobile}, {TAG}"}, {"if-match": f"{TAG}, {TAG}, {TAG}"}),
        ({"if-match": "*"}, {"if-match": "*"}),
        ({"if-match": "odd"}, {"if-match": "odd"}),
    ):
        place.ask("/tagged", headers=PHONE | sent)
        came = upstream.got[-1].headers
        assert {
            name: came[name] for name in (*since, "if-none-match", "if-match") if name in came
        } == got


def test_one_shape_keeps_the_tag(places: dict[str, Gateway]) -> None:
    """What a client sends as If-Match, on whatever route, is what the upstream knows."""
    assert places["agents"].ask("/tagged-once").headers["etag"] == TAG


@pytest.mark.parametrize("path", ["/plain", "/direct", "/both", "/bare"])
def test_a_view_that_no_header_chooses_is_private(places: dict[str, Gateway], path: str) -> None:
    """The default view too: who gets another one may stand behind the same cache."""
    for _ in range(2):
        reply = places["places"].ask(path)
        assert reply.json == {"v": 1}
        assert told(reply)[1] == {"private", "max-age"}


@pytest.mark.parametrize("path", ["/from", "/from-cached"])
def test_what_is_made_from_the_address_is_private(places: dict[str, Gateway], path: str) -> None:
    """Stored here or not."""
    for _ in range(2):
        assert told(places["agents"].ask(path))[1] == {"private", "max-age"}


@pytest.mark.parametrize("path", ["/tenant", "/tenant-cached"])
def test_what_is_made_from_a_header_that_was_written_is_private(
    places: dict[str, Gateway], path: str
) -> None:
    """By a plugin: the client never sends it."""
    for _ in range(2):
        reply = places["agents"].ask(path, headers={"x-t": "a"})
        assert told(reply)[:2] == ({"x-tenant"}, {"private", "max-age"})


@pytest.mark.parametrize("path", ["/tenant", "/tenant-cached"])
def test_what_is_made_from_a_header_as_it_came_is_not(
    places: dict[str, Gateway], path: str
) -> None:
    """Where the client sends it, Vary is enough."""
    for _ in range(2):
        reply = places["agents"].ask(path, headers={"x-tenant": "b"})
        assert told(reply)[:2] == ({"x-tenant"}, {"max-age"})


def test_an_answer_for_somebody_is_private_if_parts_say_nothing(
    places: dict[str, Gateway],
) -> None:
    """With a cache on the route as without."""
    key = {"x-api-key": api_keys.written("ann", SECRET)}
    assert told(places["agents"].ask("/silent", headers=key))[1] == {"private"}


@pytest.mark.parametrize(
    "path", ["/named/a", "/named-cached/a", "/named/moved", "/named-cached/moved"]
)
def test_a_header_that_tells_who_is_calling_is_private(
    places: dict[str, Gateway], path: str
) -> None:
    """Of a redirect too, and for nobody as well: a cache further on would give that to anybody."""
    key = {"x-api-key": api_keys.written("ann", SECRET)}
    for headers, name in ((key, "ann"), ({}, ""), (key, "ann")):
        reply = places["agents"].ask(path, headers=headers)
        assert reply.headers["x-user"] == name
        assert {"private", "max-age"} <= set(
            reply.headers["cache-control"].replace("=60", "").split(", ")
        )


def test_a_header_that_is_made_of_a_header_names_it(places: dict[str, Gateway]) -> None:
    """Of the path it needn't: that is the resource's own."""
    for language in ("de", "en"):
        one, two = twice(places["agents"], "/language", **{"x-l": language})
        assert one.headers["x-language"] == two.headers["x-language"] == language
        assert told(one)[:2] == told(two)[:2] == ({"x-l"}, {"max-age"})


def test_a_view_that_a_key_may_choose_is_private(places: dict[str, Gateway]) -> None:
    """The consumer that a key says wins over those that headers tell."""
    for key in ({"x-api-key": api_keys.written("bob", SECRET)}, {}):
        reply = places["agents"].ask("/keyed", headers=key)
        assert reply.json == ({"m": 1} if key else {"v": 1})
        assert told(reply)[:2] == ({"user-agent"}, {"private", "max-age"})
