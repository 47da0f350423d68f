"""Composed answers in a route's cache: whose they are, for how long, and what is never kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from extproc.authentication import api_keys
from tests.e2e.test_cache import metric
from tests.support.client import Reply, ask
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET, SALT = "s" * 43, "ab" * 16
TEXT = """
upstreams:
  told: {endpoints: ["http://127.0.0.1:UPSTREAM"]}
  plain: {endpoints: ["http://127.0.0.1:UPSTREAM"], identity: none}
authentication: {keys: {api_key: {file: keys.jsonl}}}
identity: {headers: {x-user: "{principal.subject}"}}
defaults: {authentication: [keys, anonymous]}
routes:
  - name: mine
    match: {path: /mine}
    cache: {ttl: 60s}
    aggregate:
      calls:
        me: {upstream: told, path: /me}
        news: {upstream: plain, path: /news}
      response: "{me: me.user, news: news.path}"
  - name: partial
    match: {path: /partial}
    cache: {ttl: 60s}
    aggregate:
      calls:
        news: {upstream: plain, path: /news}
        ads: {upstream: plain, path: /broken, required: false}
      response: "{news: news.path, ads: ads}"
  - name: whole
    match: {path: "/whole/{how}"}
    authentication: none
    cache: {ttl: 1s, stale_if_error: 5m}
    aggregate:
      calls: &calls
        main: {upstream: plain, path: "/main"}
        more: {upstream: plain, path: "/more", required: false}
      response: "{main: main.path, more: more.path}"
  - name: behind
    match: {path: /behind}
    authentication: none
    cache: {ttl: 1s, stale_if_error: 5m, stale_while_revalidate: 5m}
    aggregate: {calls: *calls, response: "{main: main.path, more: more.path}"}
  - name: large
    match: {path: "/large/{size}"}
    authentication: none
    cache: {ttl: 60s, max_bytes: 100B}
    aggregate:
      calls: {some: {upstream: plain, path: "/say/{request.params.size}"}}
      response: "some"
  - name: shaped
    match: {path: "/shaped/{size}", methods: [GET]}
    authentication: none
    cache: {ttl: 60s, max_bytes: 100B}
    upstream: plain
    rewrite: {path: "/say/{request.params.size}"}
    response: {body: "[@, @]"}
  - name: searched
    match: {path: /searched, methods: [GET, POST]}
    authentication: none
    cache: {ttl: 60s, methods: [POST]}
    aggregate: {calls: {main: {upstream: plain, path: "/searched/of"}}, response: "main.path"}
  - name: page
    match: {path: /page}
    aggregate:
      calls: {part: {upstream: plain, path: /page}}
      response: "part.path"
  - name: view
    match: {path: /view}
    cache: {ttl: 60s}
    authentication: none
    aggregate:
      calls: {news: {upstream: plain, path: /news}}
      view: {header: x-view}
      response: "{news: news.path}"
      views: {small: "news.path"}
  - name: said
    match: {path: "/said/{how}"}
    authentication: none
    cache: {ttl: 60s, stale_while_revalidate: 60s}
    aggregate:
      calls: {part: {upstream: plain, path: "/say/{request.params.how}"}}
      response: "part"
  - name: news
    match: {path: "/news/{what}"}
    authentication: none
    cache: {ttl: 60s}
    aggregate:
      calls: {part: {upstream: plain, path: "/say/{request.params.what}"}}
      response: "part"
  - name: loose
    match: {path: /loose}
    authentication: none
    aggregate:
      calls: {part: {upstream: plain, path: "/say/loose"}}
      response: "part"
  - name: uncached
    match: {path: /uncached}
    aggregate:
      calls: {brief: {upstream: told, path: /brief}}
      response: "brief"
"""


SAID = {
    "targeted": {"cache-control": "max-age=60", "cdn-cache-control": "no-store"},
    "varied": {"cache-control": "max-age=60", "vary": "*"},
    "old": {"cache-control": "max-age=60", "date": "Thu, 01 Jan 2026 00:00:00 GMT"},
    "now": {"cache-control": "max-age=60"},
    "loose": {"cache-control": "max-age=60"},
    "strict": {"cache-control": "max-age=60, must-revalidate"},
}


BROKEN: set[str] = set()
PAGES = [b"<html>sorry</html>"]


def says(got: Got) -> Say:
    """Say who is calling."""
    if got.path.startswith("/say/") and got.path[5:].isdigit():
        return Say("x" * int(got.path[5:]))
    if got.path.startswith("/say/"):
        return Say(got.path, headers=SAID[got.path.removeprefix("/say/")])
    if got.path == "/broken" or got.path in BROKEN:
        return Say(status=500)
    if got.path == "/page":
        headers = {"cache-control": "max-age=3600"}
        return Say({"path": "/page"}, headers=headers, body=PAGES.pop() if PAGES else None)
    if got.path == "/brief":
        return Say(1, headers={"cache-control": "max-age=30"})
    return Say({"path": got.path, "user": got.headers.get("x-user", "")})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(says) as server:
        yield server


@pytest.fixture(scope="module")
def place(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway with two keys."""
    entries = [{"id": name, "hash": api_keys.digest(SECRET, SALT)} for name in ("ann", "bob")]
    keys = "".join(json.dumps(entry) + "\n" for entry in entries)
    with gateway(TEXT.replace("UPSTREAM", str(upstream.port)), {"keys.jsonl": keys}) as running:
        yield running


def get(place: Gateway, path: str, key: str = "", **headers: str) -> Reply:
    """Ask with a key."""
    named = {"x-api-key": api_keys.written(key, SECRET)} if key else {}
    return ask(
        place.port, path, headers=named | {n.replace("_", "-"): v for n, v in headers.items()}
    )


def test_each_principal_has_its_own(place: Gateway, upstream: Counting) -> None:
    """C1, C13: kept for each, given to nobody else; caches further on are told."""
    for key in ("ann", "bob", ""):
        assert get(place, "/mine", key).json["me"] == key
    upstream.forget()
    for key in ("ann", "bob", ""):
        reply = get(place, "/mine", key)
        assert reply.json == {"me": key, "news": "/news"}
        assert "hit" in reply.headers["cache-status"]
        private = reply.headers["cache-control"].startswith("private, max-age=")
        assert private is bool(key)
    assert not upstream.got


def test_what_a_client_demands_holds_for_the_parts(place: Gateway, upstream: Counting) -> None:
    """`no-cache` composes of no stored part, but where the route has no cache."""
    assert get(place, "/news/now").status == 200
    for number, said in enumerate(("no-cache", "max-age=0"), 2):
        until(lambda: ages(place, "/news/now"), "a second has passed")
        assert get(place, "/news/now", cache_control=said).status == 200
        assert upstream.count("/say/now") == number
        assert "hit" in get(place, "/news/now").headers["cache-status"]
        assert upstream.count("/say/now") == number
    for said in ("max-age=60", "no-cache"):
        assert get(place, "/loose", cache_control=said).status == 200
    assert upstream.count("/say/loose") == 1


def ages(place: Gateway, path: str) -> bool:
    """Say whether what is stored has an age."""
    return int(get(place, path).headers.get("age", "0")) > 0


def test_a_partial_answer_is_not_kept(place: Gateway, upstream: Counting) -> None:
    """C13: each request asks again."""
    for number in range(1, 3):
        reply = get(place, "/partial")
        assert reply.headers["x-gateway-partial"] == "ads"
        assert "hit" not in reply.headers["cache-status"]
        assert upstream.count("/broken") == number


def test_a_partial_answer_leaves_the_whole_one(place: Gateway) -> None:
    """C13: which stands in when the main part fails too."""
    BROKEN.clear()
    whole = get(place, "/whole/one")
    assert "stored" in whole.headers["cache-status"]
    BROKEN.add("/more")
    until(lambda: "x-gateway-partial" in get(place, "/whole/one").headers, "it is stale")
    BROKEN.add("/main")
    reply = get(place, "/whole/one")
    assert (reply.status, reply.json) == (200, whole.json)
    assert "stale-if-error" in reply.headers["cache-status"]


def test_a_partial_answer_in_the_background_leaves_it_too(place: Gateway) -> None:
    """It is given for all of its window."""
    BROKEN.clear()
    whole = get(place, "/behind")
    BROKEN.add("/more")
    before = metric(place, "revalidation-failed")
    until(
        lambda: get(place, "/behind") and metric(place, "revalidation-failed") > before,
        "it was asked for in the background",
    )
    BROKEN.add("/main")
    for _ in range(3):
        reply = get(place, "/behind")
        assert (reply.status, reply.json) == (200, whole.json)
        assert "hit" in reply.headers["cache-status"]


@pytest.mark.parametrize(
    ("path", "stored"),
    [("/large/90", True), ("/large/110", False), ("/shaped/40", True), ("/shaped/90", False)],
)
def test_what_is_too_large_is_not_said_to_be_stored(
    place: Gateway,
    path: str,
    stored: bool,  # noqa: FBT001 - one case
) -> None:
    """What is bounded is the body as it is stored: composed, or shaped."""
    status = get(place, path).headers["cache-status"]
    assert ("; stored" in status, "too-large" in status) == (stored, not stored)
    assert ("; hit" in get(place, path).headers["cache-status"]) is stored


def test_a_part_that_cannot_be_read_is_not_kept(place: Gateway, upstream: Counting) -> None:
    """An error page that says 200 is over when the upstream has recovered."""
    assert get(place, "/page").status == 502
    for _ in range(2):
        assert get(place, "/page").json == "/page"
    assert upstream.count("/page") == 2


def test_a_view_by_header_is_part_of_the_key(place: Gateway) -> None:
    """Each shape is kept apart, and told with Vary."""
    for _ in range(2):
        assert get(place, "/view").json == {"news": "/news"}
        small = get(place, "/view", x_view="small")
        assert small.json == "/news"
        assert "x-view" in small.headers["vary"]


def test_without_a_cache_of_its_own(place: Gateway) -> None:
    """An answer for somebody is private, for nobody it isn't."""
    assert get(place, "/uncached", "ann").headers["cache-control"].startswith("private, max-age=")
    assert get(place, "/uncached").headers["cache-control"].startswith("max-age=")


@pytest.mark.parametrize(
    ("how", "control", "stored"),
    [
        ("targeted", "no-store", False),
        ("varied", "no-store", False),
        ("old", "max-age=0", True),
        ("strict", "must-revalidate", True),
    ],
)
def test_what_a_part_says_holds_for_the_whole(
    place: Gateway,
    how: str,
    control: str,
    stored: bool,  # noqa: FBT001 - one case
) -> None:
    """As the cache itself reads it, the route's windows or not."""
    reply = get(place, f"/said/{how}")
    assert control in reply.headers["cache-control"]
    assert ("stored" in reply.headers["cache-status"]) is stored


def test_a_post_to_an_aggregate_without_a_body_of_its_own(
    place: Gateway, upstream: Counting
) -> None:
    """It is looked for by the client's body before anything is called, and makes nothing void."""
    outcomes = []
    for body in (None, b"{}", b"[]", b"{}", None):
        method = "GET" if body is None else "POST"
        reply = place.ask("/searched", method=method, body=body)
        assert (reply.status, reply.json) == (200, "/searched/of")
        outcomes.append("hit" in reply.headers["cache-status"])
    assert outcomes == [False, False, False, True, True]
    assert upstream.count("/searched/of") == 3
