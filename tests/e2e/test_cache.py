"""The cache through a real Envoy: counted at the upstream, with many requests at once."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.origin import Came, Origin, Says, origin
from tests.support.processes import ROOT, Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.client import Reply

TOGETHER = 20
TEXT = """
upstreams: {{origin: {{endpoints: ["http://127.0.0.1:{port}"]}}, secret: {{endpoints: ["http://127.0.0.1:{port}"]}}}}
authentication: {{keys: {{api_key: {{file: keys.jsonl}}}}}}
defaults: {{authentication: none}}
routes:
  - {{name: plain, match: {{path: /plain/*, methods: any}}, upstream: origin, cache: {{}}}}
  - {{name: ttl, match: {{path: /ttl/*}}, upstream: origin, cache: {{ttl: 1h, tags: [all, "{{request.path}}"]}}}}
  - {{name: writes, match: {{path: "/ttl/{{id}}", methods: [PUT, DELETE], host: 127.0.0.1}}, upstream: origin}}
  - {{name: uncached, match: {{path: /uncached/*}}, upstream: origin}}
  - name: added
    match: {{path: /added/*}}
    upstream: origin
    cache: {{}}
    request: {{headers: {{set: {{x-added: "for {{request.path}}"}}, remove: [x-removed]}}}}
    response: {{headers: {{set: {{x-served-by: gateway}}}}}}
  - {{name: search, match: {{path: /search, methods: [POST]}}, upstream: origin, cache: {{ttl: 1h, methods: [POST]}}}}
"""
GRPC = """
upstreams: {{greeter: {{endpoints: ["grpc://127.0.0.1:{port}"]}}}}
defaults: {{authentication: none}}
routes:
  - {{name: greeter, match: {{path: /test.Greeter/*, methods: [POST]}}, upstream: greeter, cache: {{ttl: 1h, methods: [POST]}}}}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Origin]:
    """Run the origin."""
    with origin() as running:
        yield running


@pytest.fixture(scope="module")
def running(upstream: Origin) -> Iterator[Gateway]:
    """Run a gateway with one worker."""
    with gateway(TEXT.format(port=upstream.port), {"keys.jsonl": ""}) as started:
        yield started


def together(
    running: Gateway, target: str, count: int = TOGETHER, when: Callable[[], object] | None = None
) -> list[Reply]:
    """Ask for the same many times at once; do something while they wait."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(running.ask, target) for _ in range(count)]
        if when is not None:
            when()
        return [one.result() for one in asked]


def metric(running: Gateway, outcome: str) -> float:
    """Return how often the cache counted an outcome, over all routes."""
    from tests.support.client import ask  # noqa: PLC0415 - beside its use

    text = ask(running.admin, "/metrics").body.decode()
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("extproc_cache_total") and f'outcome="{outcome}"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_cold_miss_reaches_the_upstream_once(running: Gateway, upstream: Origin) -> None:
    """Twenty at once: one goes, nineteen wait for it."""
    gate = threading.Event()
    upstream.says["/plain/cold"] = Says({"cache-control": "max-age=60"}, gate=gate)
    before = metric(running, "collapsed")

    def release() -> None:
        until(lambda: upstream.count("/plain/cold") == 1, "one came")
        # The others arrive; nothing shows that they have. Longer than Envoy waits by itself.
        threading.Event().wait(1.5)
        gate.set()

    replies = together(running, "/plain/cold", when=release)
    assert {reply.body for reply in replies} == {b"1"}
    assert upstream.count("/plain/cold") == 1
    until(lambda: metric(running, "collapsed") > before, "those who waited are counted")


def test_what_cannot_be_shared_is_waited_for_once_at_most(
    running: Gateway, upstream: Origin
) -> None:
    """After the first burst nobody waits: the next reaches the upstream all at once."""
    upstream.says["/plain/never"] = Says({"cache-control": "no-store"})
    together(running, "/plain/never")
    assert upstream.count("/plain/never") == TOGETHER
    gate = threading.Event()
    upstream.says["/plain/never"] = Says({"cache-control": "no-store"}, gate=gate)
    upstream.most.clear()

    def release() -> None:
        until(lambda: upstream.most["/plain/never"] == TOGETHER, "all are there at once")
        gate.set()

    replies = together(running, "/plain/never", when=release)
    assert len({reply.body for reply in replies}) == TOGETHER


@pytest.mark.parametrize(
    ("name", "headers", "client", "bursts"),
    [
        ("validated", {"cache-control": "no-cache", "etag": '"v"'}, {}, (TOGETHER - 1, TOGETHER)),
        ("at-once-stale", {"cache-control": "max-age=0"}, {}, (TOGETHER - 1, TOGETHER)),
        ("reload", {"cache-control": "max-age=60"}, {"cache-control": "no-cache"}, (TOGETHER,) * 2),
        ("unmodified", {"cache-control": "max-age=60"}, {"if-match": '"v"'}, (TOGETHER,) * 2),
        ("refused", {}, {}, (TOGETHER - 1, TOGETHER - 1)),
    ],
)
def test_nobody_queues_for_what_is_not_for_them(
    running: Gateway,
    upstream: Origin,
    name: str,
    headers: dict[str, str],
    client: dict[str, str],
    bursts: tuple[int, int],
) -> None:
    """Whoever can't use what another one brought goes to the upstream, all at the same time.

    The next burst doesn't wait at all, but for an error: that says nothing of the next answer.
    """
    status = 503 if name == "refused" else 200
    for at_once in bursts:
        says = Says(headers, status=status)
        statuses = burst(running, upstream, f"/plain/{name}", says, client, at_once)
        assert statuses == {status}


def burst(
    running: Gateway,
    upstream: Origin,
    target: str,
    says: Says,
    client: dict[str, str],
    at_once: int,
) -> set[int]:
    """Send many requests; wait until so many are at the upstream at once, or all but one behind it.

    Returns:
        The statuses of their answers.
    """
    leads, seen = at_once < TOGETHER, upstream.count(target)
    first, rest = threading.Event(), threading.Event()

    def answer(_came: Came) -> Says:
        leader = leads and upstream.count(target) == seen + 1
        return replace(says, gate=first if leader else rest)

    upstream.says[target] = answer
    upstream.most.clear()
    with ThreadPoolExecutor(TOGETHER) as pool:
        asked = [pool.submit(running.ask, target, headers=client) for _ in range(TOGETHER)]
        try:
            if leads:
                until(lambda: upstream.count(target) == seen + 1, "one came")
                threading.Event().wait(0.3)  # the others arrive; nothing shows that they have
                first.set()
            until(lambda: upstream.most[target] >= at_once, "all others are there at once")
        finally:
            first.set()
            rest.set()
        return {one.result().status for one in asked}


def test_the_answer_to_a_precondition_evicts_nothing(running: Gateway, upstream: Origin) -> None:
    """A client's own 412 says nothing of what is stored."""

    def says(came: Came) -> Says:
        refused = "if-match" in came.headers
        return Says({"cache-control": "max-age=60", "etag": '"v"'}, status=412 if refused else 200)

    upstream.says["/plain/if-match"] = says
    assert running.ask("/plain/if-match").status == 200
    assert running.ask("/plain/if-match", headers={"if-match": '"other"'}).status == 412
    assert "; hit" in running.ask("/plain/if-match").headers["cache-status"]


def test_stale_is_given_while_one_validates(running: Gateway, upstream: Origin) -> None:
    """All twenty answer at once, though the upstream doesn't; one request goes to it."""
    upstream.says["/plain/swr"] = Says(
        {"cache-control": "max-age=1, stale-while-revalidate=60", "etag": '"v"'}
    )
    assert running.ask("/plain/swr").body == b"1"
    until(lambda: "ttl=-" in running.ask("/plain/swr").headers["cache-status"], "it is stale")
    until(lambda: upstream.count("/plain/swr") == 2, "it is validated")
    until(lambda: running.ask("/plain/swr").body == b"2", "what came is given")
    until(lambda: "ttl=-1" in running.ask("/plain/swr").headers["cache-status"], "stale again")
    until(lambda: upstream.count("/plain/swr") >= 3, "and validated")
    gate = threading.Event()
    upstream.says["/plain/swr"] = Says({"cache-control": "max-age=60"}, gate=gate)
    seen = upstream.count("/plain/swr")
    until(lambda: "ttl=-" in running.ask("/plain/swr").headers["cache-status"], "and stale")
    replies = together(running, "/plain/swr")
    assert all("; hit;" in reply.headers["cache-status"] for reply in replies)
    assert upstream.count("/plain/swr") <= seen + 1
    gate.set()


def test_a_client_that_goes_away_strands_nobody(running: Gateway, upstream: Origin) -> None:
    """The one whose request was under way leaves; the next one's goes."""
    gate = threading.Event()
    upstream.says["/plain/leaves"] = Says({"cache-control": "max-age=60"}, gate=gate)
    leader = http.client.HTTPConnection("127.0.0.1", running.port)
    leader.request("GET", "/plain/leaves")
    until(lambda: upstream.count("/plain/leaves") == 1, "it is under way")

    def leave() -> None:
        threading.Event().wait(0.2)
        leader.close()
        until(lambda: upstream.count("/plain/leaves") == 2, "another one goes")
        gate.set()

    replies = together(running, "/plain/leaves", 5, leave)
    assert {reply.body for reply in replies} == {b"2"}
    assert upstream.count("/plain/leaves") == 2


def test_validation_in_the_background_asks_as_the_client_did(
    running: Gateway, upstream: Origin
) -> None:
    """The same Host, address and changed headers; no conditions of the client's."""
    upstream.says["/added/x"] = Says(
        {"cache-control": "max-age=1, stale-while-revalidate=60", "etag": '"v"'}
    )
    headers = {"x-own": "1", "x-removed": "1", "accept-language": "de"}
    running.ask("/added/x", headers=headers)

    def stale() -> bool:
        reply = running.ask("/added/x", headers=headers | {"if-none-match": '"other"'})
        return "ttl=-" in reply.headers["cache-status"]

    until(stale, "it is given stale")
    until(lambda: upstream.count("/added/x") == 2, "it is validated")
    first, second = (came for came in upstream.came if came.target == "/added/x")
    differ = {"if-none-match", "x-request-id", "x-envoy-expected-rq-timeout-ms"}
    same = {name: value for name, value in first.headers.items() if name not in differ}
    assert {n: v for n, v in second.headers.items() if n not in differ} == same
    assert second.headers["if-none-match"] == '"v"'
    assert same["x-added"] == "for /added/x"
    assert "x-removed" not in same
    assert same["accept-encoding"] == "identity"


def test_bodies_are_neither_held_back_nor_cut(running: Gateway, upstream: Origin) -> None:
    """A slow one's first piece comes before its last; a large one passes whole and isn't stored."""
    between = threading.Event()
    upstream.says["/ttl/slow"] = Says(pieces=(b"first", b"second"), between=between)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/ttl/slow")
    response = connection.getresponse()
    assert response.read(5) == b"first"
    between.set()
    assert response.read() == b"second"
    connection.close()
    assert running.ask("/ttl/slow").headers["cache-status"].startswith("extproc; hit")
    large = b"x" * (3 << 20)
    upstream.says["/ttl/large"] = Says(body=large)
    upstream.says["/ttl/chunked"] = Says(pieces=(large[: 1 << 20],) * 3)
    for target in ("/ttl/large", "/ttl/chunked"):
        for _ in range(2):
            reply = running.ask(target)
            assert len(reply.body) == 3 << 20
            assert "stored" not in reply.headers["cache-status"]
        assert upstream.count(target) == 2
    assert running.ask("/ttl/large").headers["content-length"] == str(3 << 20)


def test_what_is_stored_is_answered_like_the_upstream(running: Gateway, upstream: Origin) -> None:
    """Status, length, an empty body, HEAD, a part, 304."""
    upstream.says["/ttl/a"] = Says(
        {"etag": '"v"', "content-type": "text/plain"}, body=b"0123456789"
    )
    first, hit = running.ask("/ttl/a"), running.ask("/ttl/a")
    assert first.headers["content-length"] == hit.headers["content-length"] == "10"
    assert first.headers["cache-status"] == "extproc; fwd=uri-miss; stored"
    assert (hit.body, hit.headers["age"]) == (b"0123456789", "0")
    head = running.ask("/ttl/a", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    part = running.ask("/ttl/a", headers={"range": "bytes=2-3"})
    assert (part.status, part.body) == (206, b"23")
    assert part.headers["content-range"] == "bytes 2-3/10"
    upstream.says["/ttl/long"] = Says({"content-type": "text/plain"}, body=b"0123456789" * 100)
    gzip = {"accept-encoding": "gzip"}
    assert running.ask("/ttl/long", headers=gzip).headers["content-encoding"] == "gzip"
    part = running.ask("/ttl/long", headers=gzip | {"range": "bytes=0-499"})
    assert (part.status, part.body) == (206, b"0123456789" * 50)
    assert "content-encoding" not in part.headers
    same = running.ask("/ttl/a", headers={"if-none-match": '"v"'})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", '"v"')
    assert running.ask("/ttl/a", headers={"range": "bytes=99-"}).status == 416
    upstream.says["/plain/none"] = Says({"cache-control": "max-age=60"}, status=204)
    assert [running.ask("/plain/none").status for _ in range(2)] == [204, 204]
    assert (upstream.count("/ttl/a"), upstream.count("/plain/none")) == (1, 1)


def test_writes_on_another_route_invalidate(running: Gateway, upstream: Origin) -> None:
    """Where it overlaps the cached one."""
    assert [running.ask("/ttl/w").body for _ in range(2)] == [b"1", b"1"]
    assert running.ask("/ttl/w", method="PUT", body=b"x").status == 200
    assert running.ask("/ttl/w").body == b"3"
    assert upstream.count("/ttl/w") == 3


def test_stale_stands_in_when_the_upstream_breaks(running: Gateway, upstream: Origin) -> None:
    """An error of the upstream, for as long as the response allows."""
    upstream.says["/plain/sie"] = Says({"cache-control": "max-age=1, stale-if-error=60"})
    running.ask("/plain/sie")
    upstream.says["/plain/sie"] = Says(status=503)

    def stale() -> Reply | None:
        reply = running.ask("/plain/sie")
        return reply if "fwd=stale" in reply.headers["cache-status"] else None

    reply = until(stale, "it stands in")
    assert (reply.status, reply.body) == (200, b"1")
    said = r"extproc; fwd=stale; fwd-status=503; ttl=-\d+; detail=stale-if-error"
    assert re.fullmatch(said, reply.headers["cache-status"])
    reply = running.ask("/plain/sie-not", headers={"cache-control": "only-if-cached"})
    assert (reply.status, reply.headers["cache-status"]) == (504, "extproc; detail=only-if-cached")


def test_what_has_no_type_gets_none_from_the_store(running: Gateway, upstream: Origin) -> None:
    """Also with a header that came twice: a hit says what the upstream said."""
    said = {"Link": "<a>; rel=x", "LINK": "<b>; rel=y", "cache-control": "max-age=60"}
    upstream.says["/plain/untyped"] = Says(said, body=b"<b>raw")
    replies = [running.ask("/plain/untyped") for _ in range(2)]
    assert "hit" in replies[1].headers["cache-status"]
    for reply in replies:
        assert reply.body == b"<b>raw"
        assert "content-type" not in reply.headers
    assert replies[1].headers["link"] == "<a>; rel=x, <b>; rel=y"


def test_posts_by_their_body(running: Gateway, upstream: Origin) -> None:
    """Where a route says that they change nothing."""
    bodies = [
        running.ask("/search", method="POST", body=body).body
        for body in (b'{"q": 1}', b'{"q": 2}', b'{"q": 1}', b"")
    ]
    assert bodies == [b"1", b"2", b"1", b"3"]
    assert upstream.count("/search") == 3


def test_a_reload_keeps_what_it_does_not_change(running: Gateway, upstream: Origin) -> None:
    """A route's own part of the file decides."""
    running.ask("/ttl/kept")
    running.ask("/added/kept")
    upstream.says["/added/kept"] = Says({"cache-control": "max-age=60"})
    running.ask("/added/kept")
    version = running.status()["version"]
    running.write(TEXT.format(port=upstream.port).replace("gateway}}", "other}}"))
    until(lambda: running.status()["version"] != version, "the new version is in force")
    assert running.ask("/ttl/kept").headers["cache-status"].startswith("extproc; hit")
    fresh = running.ask("/added/kept")
    assert fresh.headers["cache-status"].startswith("extproc; fwd=uri-miss")
    assert fresh.headers["x-served-by"] == "other"


def purge(running: Gateway, *options: str) -> str:
    """Run the command against a running gateway."""
    command = [sys.executable, "-m", "extproc", "purge", *options]
    command += ["--admin", f"127.0.0.1:{running.admin}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_purging_reaches_every_worker(upstream: Origin) -> None:
    """When the command ends, no worker answers with what was purged."""
    with gateway(TEXT.format(port=upstream.port), {"keys.jsonl": ""}, workers=2) as running:
        for options in (
            ("--url", f"http://127.0.0.1:{running.port}/ttl/p"),
            ("--url", "https://127.0.0.1//ttl/x/../%70"),
            ("--tag", "all"),
            ("--tag", "/ttl/p"),
            ("--all",),
            ("--all", "--soft"),
        ):
            for _ in range(3):
                together(running, "/ttl/p", 8)
            upstream.says["/ttl/p"] = Says(body=str(options).encode())
            assert purge(running, *options) == "purged on 2 workers\n"
            replies = together(running, "/ttl/p", 8)
            assert {reply.body for reply in replies} == {str(options).encode()}


def test_a_write_reaches_every_worker(upstream: Origin) -> None:
    """Soon after the one that served it; what is asked for afterwards is stored by all again."""
    target = "/plain/workers"
    with gateway(TEXT.format(port=upstream.port), {"keys.jsonl": ""}, workers=3) as running:
        for body in (b"a", b"b", b"c"):
            upstream.says[target] = Says({"cache-control": "max-age=600"}, body=body)
            running.ask(target, method="PUT", body=b"x")
            threading.Event().wait(1)  # nothing shows that the others know it

            def all_hit(body: bytes = body) -> bool:
                replies = together(running, target, 32)
                assert {reply.body for reply in replies} == {body}
                return all("; hit" in reply.headers["cache-status"] for reply in replies)

            until(all_hit, "every worker has it")


def test_a_purge_needs_the_token(running: Gateway) -> None:
    """C12: like every POST of the administration interface."""
    from tests.support.client import ask  # noqa: PLC0415 - beside its use

    host = {"content-type": "application/json", "host": f"127.0.0.1:{running.admin}"}
    reply = ask(running.admin, "/purge", method="POST", headers=host, body=b'{"all": true}')
    assert reply.status == 401


def raw(port: int, target: str) -> bytes:
    """Return all bytes of an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_interim_responses_are_passed_on_where_nothing_buffers(upstream: Origin) -> None:
    """103 reaches the client, and the final response is stored; a route that buffers stops it."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    upstream.says["/hints"] = Says({"cache-control": "max-age=60"}, interim=early)
    route = "  - {{name: {0}, match: {{path: /{0}}}, upstream: origin, {1}}}\n"
    for rest, passed in (("", True), (route.format("shaped", 'request: {body: "@"}'), False)):
        text = (
            f'upstreams: {{origin: {{endpoints: ["http://127.0.0.1:{upstream.port}"]}}}}\n'
            "defaults: {authentication: none}\nroutes:\n"
            + route.format("hints", "cache: {}")
            + rest
        )
        with gateway(text) as running:
            first, second = raw(running.port, "/hints"), raw(running.port, "/hints")
            assert (b"HTTP/1.1 103" in first) is passed
            assert b"extproc; hit" in second
            checked = subprocess.run(
                [sys.executable, "-m", "extproc", "check", str(running.folder / "gateway.yaml")],
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
            assert ("are passed on" in checked.stdout) is passed


def test_trailers_pass_unharmed_and_are_not_stored() -> None:
    """A gRPC answer on a cached route: message, trailing metadata and status, from the upstream."""
    asked: list[bytes] = []
    together = threading.Barrier(5)

    def greet(data: bytes, context: Any) -> bytes:
        asked.append(data)
        if data == b"all":
            together.wait(15)
        if data == b"at once":  # its trailers are all of the answer, and look like headers
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        context.send_initial_metadata([("cache-control", "max-age=60")])
        context.set_trailing_metadata([("x-sum", f"sum-{len(asked)}"), ("x-bytes-bin", b"\0\xff")])
        if data == b"refused":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not this one")
        return b"hello " + data

    handlers: dict[str, Any] = {"Greet": grpc.unary_unary_rpc_method_handler(greet)}
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Greeter", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            gateway(GRPC.format(port=port)) as running,
            grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            call: Any = channel.unary_unary("/test.Greeter/Greet")
            for number in (1, 2):
                answer, told = call.with_call(b"you", timeout=10)
                assert answer == b"hello you"
                trailers = dict(told.trailing_metadata())
                assert (trailers["x-sum"], trailers["x-bytes-bin"]) == (f"sum-{number}", b"\0\xff")
            # What never can be stored is waited for once at most, then nobody waits.
            call(b"alone", timeout=10)
            for data in (b"alone", b"all"):
                calls = [call.future(data, timeout=20) for _ in range(5)]
                assert {one.result() for one in calls} == {b"hello " + data}
            with pytest.raises(grpc.RpcError) as caught:
                call(b"refused", timeout=10)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert caught.value.details() == "not this one"
            for _ in range(2):
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"at once", timeout=10)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop(0).wait()
    assert asked == ([b"you"] * 2 + [b"alone"] * 6 + [b"all"] * 5 + [b"refused"] + [b"at once"] * 2)


def test_unknown_methods_and_statuses_pass(running: Gateway, upstream: Origin) -> None:
    """A method that nobody knows reaches the upstream each time, and makes void what it was about."""
    upstream.says["/plain/unknown"] = Says({"cache-control": "max-age=60"})
    assert running.ask("/plain/unknown").body == b"1"
    assert running.ask("/plain/unknown").body == b"1"
    for number in (2, 3):
        assert running.ask("/plain/unknown", method="M-SEARCH").body == str(number).encode()
    assert running.ask("/plain/unknown").body == b"4"
    assert [came.method for came in upstream.came if came.target == "/plain/unknown"] == [
        "GET",
        "M-SEARCH",
        "M-SEARCH",
        "GET",
    ]
    upstream.says["/plain/599"] = Says({"cache-control": "max-age=60"}, status=599)
    assert running.ask("/plain/599").status == 599
