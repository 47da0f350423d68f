"""C: what a cache must never give, keep, or tell."""

# ruff: noqa: E501 - a route of the gateway files below is one line

from __future__ import annotations

import ast
import gzip
import json
import pickle
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import extproc
from extproc.caching import codec, selecting
from extproc.caching.entry import Entry
from extproc.caching.keys import name_of
from extproc.core.headers import Headers
from tests.attacks.conftest import files
from tests.attacks.minting import token
from tests.support.client import ask
from tests.support.origin import Came, Origin, Says, origin
from tests.support.processes import Gateway, gateway
from tests.support.redis_server import redis_server
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.client import Reply

TEXT = """
store: {store}
upstreams:
  told: {{endpoints: ["http://127.0.0.1:{port}"]}}
  forwards: {{endpoints: ["http://127.0.0.1:{port}"], forward_credentials: true}}
authentication:
  shop: {{jwt: {{issuer: "http://issuer.test", audiences: [shop], jwks: shop.json}}}}
identity: {{headers: {{x-user: "{{principal.subject}}"}}}}
policies:
  own: {{rules: [{{name: own, allow: 'request.path.endsWith("/" + principal.subject) || !request.path.startsWith("/own/")'}}]}}
defaults: {{authentication: [shop, anonymous]}}
routes:
  - {{name: me, match: {{path: /me/*}}, upstream: told, cache: {{ttl: 1h}}}}
  - {{name: own, match: {{path: /own/*}}, upstream: told, authentication: [shop], authorization: own, identity: none, cache: {{ttl: 1h, shared: true}}}}
  - {{name: untold, match: {{path: /untold/*}}, upstream: told, identity: none, cache: {{ttl: 1h}}}}
  - {{name: shared, match: {{path: /shared/*}}, upstream: told, authentication: [shop], identity: none, cache: {{ttl: 1h, shared: true}}}}
  - {{name: passed, match: {{path: /passed/*}}, upstream: forwards, cache: {{ttl: 1h}}}}
  - {{name: open, match: {{path: /open/*, methods: any}}, upstream: told, authentication: none, cache: {{ttl: 1h, tags: ["{{request.host}}"]}}}}
  - {{name: plain, match: {{path: /plain/*}}, upstream: told, authentication: none, cache: {{}}}}
  - {{name: static, match: {{path: /static/*}}, upstream: told, authentication: none, cache: {{ttl: 1h}}}}
  - {{name: page, match: {{path: /page}}, upstream: told, authentication: [shop]}}
  - {{name: pages, match: {{path: /page/*}}, upstream: told, authentication: [shop]}}
  - name: composed
    match: {{path: /composed}}
    cache: {{ttl: 1h}}
    aggregate:
      calls: {{mine: {{upstream: told, path: /part}}}}
      response: "{{mine: mine}}"
  - name: partial
    match: {{path: /partial}}
    authentication: none
    cache: {{ttl: 1h}}
    aggregate:
      calls: {{a: {{upstream: told, path: /part}}, b: {{upstream: told, path: /broken, required: false}}}}
      response: "{{a: a, b: b}}"
"""


@dataclass(slots=True)
class Place:
    """A running gateway and its upstream, which says who it was told is calling."""

    gateway: Gateway
    upstream: Origin

    def ask(self, target: str, who: str = "", **options: Any) -> Reply:
        """Ask as somebody, or as nobody."""
        headers = dict(options.pop("headers", {}))
        if who:
            headers["authorization"] = f"Bearer {token(sub=who)}"
        return self.gateway.ask(target, headers=headers, **options)


def told(came: Came) -> Says:
    """Say who is calling, as JSON."""
    names = ("x-user", "authorization", "cookie")
    body = json.dumps({name: came.headers.get(name) for name in names}).encode()
    return Says({"content-type": "application/json"}, body=body)


@contextmanager
def started(store: str = "memory") -> Iterator[Place]:
    """Run a gateway and its upstream."""
    with (
        origin() as upstream,
        gateway(TEXT.format(port=upstream.port, store=store), files()) as running,
    ):
        for path in ("/me/x", "/untold/x", "/passed/x", "/part", "/own/alice"):
            upstream.says[path] = told
        upstream.says["/broken"] = Says(status=500)
        yield Place(running, upstream)


@pytest.fixture(scope="module")
def attacked() -> Iterator[Place]:
    """Run one place for all tests that don't break it."""
    with started() as place:
        yield place


def test_C1_nobody_gets_another_ones_answer(attacked: Place) -> None:
    """C1: A, B, anonymous, in every order, also where nothing tells the upstream who it is."""
    for path in ("/me/x", "/untold/x", "/passed/x", "/composed"):
        for who in ("alice", "bob", "", "bob", "alice", ""):
            before = attacked.upstream.count(path)
            reply = attacked.ask(path, who)
            assert reply.status == 200
            others = {"alice", "bob"} - {who}
            assert not any(other.encode() in reply.body for other in others), (path, who)
            if who and path == "/me/x":
                assert reply.json["x-user"] == who
            assert attacked.upstream.count(path) - before <= 1
    assert attacked.upstream.count("/me/x") == 3
    assert attacked.upstream.count("/untold/x") == 3
    seen = [attacked.ask("/passed/x", "carol").json["authorization"] for _ in range(2)]
    assert seen[0] == seen[1] != attacked.ask("/passed/x", "dora").json["authorization"]


def test_C2_shared_only_where_it_is_said(attacked: Place) -> None:
    """C2: `shared: true` and nothing of identity behind it: one answer for all who may."""
    replies = [attacked.ask("/shared/x", who) for who in ("alice", "bob", "alice")]
    assert {reply.body for reply in replies} == {b"1"}
    assert attacked.ask("/shared/x").status == 401
    # Nothing tells that anybody else may have it: each principal has its own.
    assert attacked.upstream.count("/shared/x") == 1


def test_C3_cookies_and_private_answers_are_not_stored(attacked: Place) -> None:
    """C3: `Set-Cookie`, `private`, `no-store`, qualified or not."""
    for number, headers in enumerate(
        (
            {"set-cookie": "a=b", "cache-control": "max-age=60"},
            {"cache-control": "private, max-age=60"},
            {"cache-control": "no-store, max-age=60"},
            {"cache-control": 'no-cache="set-cookie", max-age=60', "set-cookie": "a=b"},
            {"cache-control": 'private="set-cookie", max-age=60'},
        )
    ):
        attacked.upstream.says[f"/open/c3/{number}"] = Says(headers)
        bodies = [attacked.ask(f"/open/c3/{number}").body for _ in range(2)]
        assert bodies == [b"1", b"2"], headers


@pytest.mark.parametrize(
    "target",
    ["x.css", "x;.css", "%2fx.css", "%00.css", "%3f.css", "..%2fx.js", ".js", "x.png?v=1"],
)
def test_C4_a_suffix_makes_nothing_public(attacked: Place, target: str) -> None:
    """C4: what isn't on a cached route isn't stored, whatever its name looks like."""
    for path in (f"/page/{target}", f"/page{target}"):
        for who in ("alice", "bob"):
            reply = attacked.ask(path, who)
            assert "hit" not in reply.headers.get("cache-status", "")
        assert attacked.ask(path).status in {400, 401, 404}


UNKEYED = [
    "X-Forwarded-Host",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Port",
    "X-Forwarded-SSL",
    "X-Host",
    "X-Original-Host",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "Forwarded",
    "True-Client-IP",
    "X-Real-IP",
    "X-Wap-Profile",
    "X-Forwarded-Prefix",
    "X-User",
    "X-Gateway-Partial",
    "X-Extproc-Upstream",
]


def test_C5_headers_that_are_in_no_key_leave_no_trace(attacked: Place) -> None:
    """C5: what would change redirects never reaches the upstream; a rest is for Vary to name."""
    attacked.upstream.says["/open/c5"] = lambda came: Says(
        body=json.dumps(
            {n.lower(): came.headers[n.lower()] for n in UNKEYED if n.lower() in came.headers}
        ).encode()
    )
    unsafe = {
        name: "marker7"
        for name in UNKEYED
        if name
        not in {
            "True-Client-IP",
            "X-Real-IP",
            "X-Wap-Profile",
        }
    }
    attacked.gateway.ask("/open/c5", headers=unsafe)
    clean = attacked.gateway.ask("/open/c5")
    assert clean.headers["cache-status"].startswith("extproc; hit")
    assert b"marker7" not in clean.body


def test_C6_equal_keys_only_for_what_no_upstream_can_tell_apart(attacked: Place) -> None:
    """C6: order, repetition, separators, escapes, case: all stay different; a port doesn't."""
    targets = (
        "?a=1&a=2",
        "?a=2&a=1",
        "?a=1;b=2",
        "?a=1&b=2",
        "?utm_source=x&a=1",
        "?A=1",
        "?%61=1",
    )
    for target in (*targets, "/", "/%61", "/A", "/a"):
        attacked.gateway.ask(f"/open/c6{target}")
    every = [came.target for came in attacked.upstream.came if came.target.startswith("/open/c6")]
    assert len(every) == len(set(every))
    assert len(every) >= len(targets) + 3
    for host in ("shop", "SHOP", "shop:8080", "shop."):
        attacked.gateway.ask("/open/c6host", headers={"host": host})
    assert attacked.upstream.count("/open/c6host") == 1
    for body in (b"x", b"y"):
        attacked.gateway.ask("/open/c6fat", body=body)
    assert attacked.upstream.count("/open/c6fat") == 2


def test_C7_variants_are_bounded(attacked: Place) -> None:
    """C7: `*` is never reused, thousands of values keep a few, a Vary without end is refused."""
    attacked.upstream.says["/open/star"] = Says({"vary": "*", "cache-control": "max-age=60"})
    assert [attacked.ask("/open/star").body for _ in range(2)] == [b"1", b"2"]
    attacked.upstream.says["/open/vary"] = Says({"vary": "x-v", "cache-control": "max-age=60"})
    for number in range(200):
        attacked.gateway.ask("/open/vary", headers={"x-v": str(number)})
    assert attacked.gateway.ask("/open/vary", headers={"x-v": "199"}).body == b"200"
    assert attacked.gateway.ask("/open/vary", headers={"x-v": "0"}).body == b"201"
    long = Headers([("vary", ",".join(f"x-{n}" for n in range(10_000)))])
    assert selecting.varying(long) is None
    attacked.upstream.says["/open/cookie"] = Says({"vary": "cookie", "cache-control": "max-age=60"})
    seen = [
        attacked.gateway.ask("/open/cookie", headers={"cookie": f"a={n}"}).body for n in (1, 2, 1)
    ]
    assert seen == [b"1", b"2", b"1"]


def test_C8_errors_poison_nothing(attacked: Place) -> None:
    """C8: an oversized header or a strange method makes an error that the next one doesn't get."""
    for headers in ({"x-big": "a" * 70_000}, {"x-http-method-override": "DELETE"}, {"x": "\x01"}):
        with socket.create_connection(("127.0.0.1", attacked.gateway.port)) as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"GET /open/c8 HTTP/1.1\r\nhost: shop\r\n{lines}\r\n".encode())
            connection.settimeout(5)
            connection.recv(1 << 16)
    attacked.upstream.says["/open/c8e"] = Says(status=400)
    assert attacked.ask("/open/c8e").status == 400
    attacked.upstream.says["/open/c8e"] = Says()
    assert attacked.ask("/open/c8e").status == 200
    assert attacked.gateway.ask("/open/c8", headers={"host": "shop"}).status == 200


def test_C9_authorization_stands_before_every_hit() -> None:
    """C9: no right, a right that a new policy takes, a revoked token: no answer from the store."""
    with started() as place:
        assert place.ask("/own/alice", "alice").status == 200
        assert place.ask("/own/alice", "bob").status == 403
        assert place.ask("/own/alice").status == 401
        assert place.ask("/shared/c9", "alice").status == 200
        assert place.ask("/shared/c9", "bob").headers["cache-status"].startswith("extproc; hit")
        host = f"127.0.0.1:{place.gateway.admin}"
        command = _admin(place)
        revoked = command("/revoke", {"subject": "bob"})
        assert revoked.status == 200, (revoked, host)
        assert place.ask("/shared/c9", "bob").status == 401
        text = TEXT.format(port=place.upstream.port, store="memory")
        version = place.gateway.status()["version"]
        place.gateway.write(text.replace("name: own, allow: '", "name: own, allow: 'false && "))
        until(lambda: place.gateway.status()["version"] != version, "the policy is in force")
        assert place.ask("/own/alice", "alice").status == 403


def _admin(place: Place) -> Any:
    from extproc.adapters.admin import token_file  # noqa: PLC0415 - beside its use

    address = f"127.0.0.1:{place.gateway.admin}"
    secret = token_file(address).read_text()

    def post(path: str, said: dict[str, Any]) -> Reply:
        headers = {
            "host": address,
            "content-type": "application/json",
            "authorization": f"Bearer {secret}",
        }
        return ask(
            place.gateway.admin,
            path,
            method="POST",
            headers=headers,
            body=json.dumps(said).encode(),
        )

    return post


def test_C10_who_waits_shares_no_identity(attacked: Place) -> None:
    """C10: two principals at once: each has a request of its own; a failure isn't kept."""
    gate = threading.Event()
    attacked.upstream.says["/me/c10"] = lambda came: Says(
        {"cache-control": "max-age=60"}, body=came.headers["x-user"].encode(), gate=gate
    )
    with ThreadPoolExecutor(8) as pool:
        asked = [(who, pool.submit(attacked.ask, "/me/c10", who)) for who in ("alice", "bob") * 4]
        until(lambda: attacked.upstream.count("/me/c10") == 2, "one for each came")
        gate.set()
        assert all(reply.result().body == who.encode() for who, reply in asked)
    assert attacked.upstream.count("/me/c10") == 2
    attacked.upstream.says["/open/c10"] = Says(status=503)
    with ThreadPoolExecutor(8) as pool:
        failed = list(pool.map(lambda _: attacked.ask("/open/c10").status, range(8)))
    attacked.upstream.says["/open/c10"] = Says()
    assert (set(failed), attacked.ask("/open/c10").status) == ({503}, 200)


def test_C11_statuses_methods_ranges_and_encodings(attacked: Place) -> None:
    """C11: each as RFC 9111 says."""
    for status in (401, 403, 500, 503):
        path = f"/open/status/{status}"
        attacked.upstream.says[path] = Says(status=status)
        assert [attacked.ask(path).body for _ in range(2)] == [b"1", b"2"]
    attacked.ask("/open/head", method="HEAD")
    assert attacked.ask("/open/head").body == b"2"
    partial = {"content-range": "bytes 0-0/9", "cache-control": "max-age=60"}
    attacked.upstream.says["/open/part"] = Says(partial, 206, b"0")
    assert attacked.gateway.ask("/open/part", headers={"range": "bytes=0-0"}).status == 206
    attacked.upstream.says["/open/part"] = Says(body=b"012345678")
    assert attacked.ask("/open/part").body == b"012345678"
    large = b'{"x": "' + b"y" * 2000 + b'"}'
    attacked.upstream.says["/open/coded"] = Says({"content-type": "application/json"}, body=large)
    for _ in range(2):
        plain = attacked.gateway.ask("/open/coded", headers={"accept-encoding": "identity"})
        coded = attacked.gateway.ask("/open/coded", headers={"accept-encoding": "gzip"})
        assert plain.body == gzip.decompress(coded.body) == large
    assert attacked.upstream.count("/open/coded") == 1


def test_C12_a_purge_needs_credentials_and_names_a_host(attacked: Place) -> None:
    """C12: no token, no purge; a URL is one host's."""
    for headers in ({}, {"authorization": "Bearer wrong"}):
        said = headers | {
            "host": f"127.0.0.1:{attacked.gateway.admin}",
            "content-type": "application/json",
        }
        reply = ask(attacked.gateway.admin, "/purge", method="POST", headers=said, body=b"{}")
        assert reply.status == 401
    assert attacked.gateway.ask("/purge", method="POST").status == 404
    for host in ("one.test", "two.test"):
        attacked.gateway.ask("/open/c12", headers={"host": host})
    post = _admin(attacked)
    assert post("/purge", {"url": "http://one.test/open/c12"}).status == 200
    assert post("/purge", {"url": "/open/c12"}).status == 400
    assert post("/purge", {"tags": "*"}).status == 400
    assert post("/purge", {"tags": ["*"]}).status == 200
    hit = attacked.gateway.ask("/open/c12", headers={"host": "two.test"})
    assert hit.headers["cache-status"].startswith("extproc; hit")
    missed = attacked.gateway.ask("/open/c12", headers={"host": "one.test"})
    assert "fwd=uri-miss" in missed.headers["cache-status"]


def test_C13_an_answer_with_a_missing_part_is_no_success(attacked: Place) -> None:
    """C13: partial answers aren't stored; composed ones are each principal's own."""
    before = attacked.upstream.count("/part")
    for _ in range(2):
        reply = attacked.ask("/partial")
        assert (reply.status, reply.headers["x-gateway-partial"]) == (200, "b")
    assert attacked.upstream.count("/part") == before + 2


def test_C14_what_is_not_ours_is_a_miss() -> None:
    """C14: a pickle, a cut, another version, another key's bytes, a large one, in a real Redis."""

    def spoiled(good: bytes, entry: Entry) -> dict[str, bytes]:
        return {
            "good": good,
            "pickle": pickle.dumps({"a": 1}),
            "cut": good[:-1],
            "half": good[: len(good) // 2],
            "version": good[:3] + b"\x02" + good[4:],
            "another": codec.written(entry, name_of(("another",))),
            "flipped": good[:60] + bytes((good[60] ^ 1,)) + good[61:],
            "nothing": b"",
            "large": b"x" * (9 << 20),
        }

    names = spoiled(bytes(61), Entry(200, (), b"", 1.0, 0.0, 60.0)).keys()

    def asked(running: Gateway, name: str) -> Reply:
        return running.ask(f"/open/c14/{name}", headers={"host": "c14.test"})

    with redis_server() as redis, origin() as upstream:
        text, client = TEXT.format(port=upstream.port, store=redis.url), redis.client()
        before: set[Any] = set()
        with gateway(text, files()) as running:
            for name in names:
                assert asked(running, name).status == 200
                until(lambda: set(client.keys("extproc:1:r:*")) - before, "it is in Redis")
                key: Any
                (key,) = set(client.keys("extproc:1:r:*")) - before
                before.add(key)
                (field,) = set(client.hkeys(key)) - {b"vary"}
                good = client.hget(key, field)
                assert isinstance(good, bytes)
                entry = codec.read(good, str(key, "ascii").rpartition(":")[2], 1 << 20)
                assert entry is not None
                client.hset(key, field, spoiled(good, entry)[name])
        # Another gateway has nothing in memory, so all it knows is what Redis holds.
        with gateway(text, files()) as running:
            assert "; hit" in asked(running, "good").headers["cache-status"]
            for name in names - {"good"}:
                reply = asked(running, name)
                assert (reply.status, reply.body) == (200, b"2"), name
                assert "fwd=uri-miss" in reply.headers["cache-status"], name


def test_C14_nothing_is_unpickled() -> None:
    """C14: no module that makes objects out of bytes is imported anywhere."""
    dangerous = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
    for file in Path(extproc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not dangerous & {alias.name for alias in node.names}, file
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in dangerous, file


@pytest.mark.parametrize("text", ["*", "{}", "\r\n FLUSHALL\r\n", "\x00", "x" * 1_000_000, "a:b|c"])
def test_C15_a_key_is_a_hash(text: str) -> None:
    """C15: nothing that a client sends is part of a name in Redis, and no two keys run together."""
    name = name_of(("route", "http", "shop", text))
    assert len(name) == 48
    assert name.isalnum()
    assert name != name_of(("route", "http", f"shop{text}", ""))
    entry = Entry(200, (), b"x", 1.0, 0.0, 60.0)
    assert codec.read(codec.written(entry, name), name, 1 << 20) is not None


def test_C16_nobody_learns_what_others_fetched(attacked: Place) -> None:
    """C16: an answer that A has stored is no hit for B, and has no Age."""
    for _ in range(2):
        attacked.ask("/me/c16", "alice")
    reply = attacked.ask("/me/c16", "bob")
    assert "fwd=uri-miss" in reply.headers["cache-status"]
    assert "age" not in reply.headers


def test_C17_nothing_stale_for_a_token_that_is_over(attacked: Place) -> None:
    """C17: neither while it is validated nor in place of an error."""
    attacked.upstream.says["/me/c17"] = Says(
        {"cache-control": "max-age=0, stale-while-revalidate=600, stale-if-error=600"}
    )
    assert attacked.ask("/me/c17", "alice").status == 200
    stale = attacked.ask("/me/c17", "alice")
    assert "; hit" in stale.headers["cache-status"]
    over = {"authorization": f"Bearer {token(sub='alice', exp=1)}"}
    assert attacked.gateway.ask("/me/c17", headers=over).status == 401
