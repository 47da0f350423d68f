"""A whole gateway as its clients see it: routes, problems, edges, identity, compression."""

# ruff: noqa: E501 - a route of the gateway files below is one line

from __future__ import annotations

import gzip
import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.client import ask
from tests.support.processes import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.processes import Shop

TEXT = """
version: 1
listener: {{address: "127.0.0.1:PORT", max_response_bytes: 512KiB}}
admin: {{address: "127.0.0.1:ADMIN"}}
upstreams:
  echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}
  gone: {{endpoints: ["http://127.0.0.1:1"]}}
  slow: {{endpoints: ["http://127.0.0.1:{ads}"], timeout: 100ms}}
authentication:
  shop: {{jwt: {{issuer: "http://127.0.0.1:{issuer}", audiences: [shop], discovery: true}}}}
identity: {{headers: {{x-user: "{{principal.subject}}"}}}}
policies:
  readers: {{rules: [{{name: reader, allow: '"orders:read" in principal.scopes'}}]}}
defaults: {{authentication: none}}
routes:
  - {{name: any, match: {{path: /open/*}}, upstream: echo}}
  - {{name: private, match: {{path: /private/*}}, upstream: echo, authentication: shop, authorization: readers}}
  - {{name: gone, match: {{path: /gone}}, upstream: gone}}
  - {{name: slow, match: {{path: /ads}}, upstream: slow}}
  - {{name: host, match: {{path: /open/*, host: "*.example.com"}}, upstream: echo, rewrite: {{path: /host}}}}
  - {{name: beta, match: {{path: /beta, methods: [GET], headers: {{x-beta: "1"}}, query: {{on: true}}}}, upstream: echo}}
  - {{name: large, match: {{path: /large, methods: [POST]}}, upstream: echo, response: {{body: body}}}}
  - {{name: both, match: {{path: /both, methods: [POST]}}, upstream: echo, request: {{body: "@"}}, response: {{body: body}}}}
  - {{name: shaped, match: {{path: /shaped, methods: [POST]}}, upstream: echo, request: {{body: "{{doubled: [n, n]}}"}}}}
"""


@pytest.fixture(scope="module")
def running(shop: Shop) -> Iterator[Gateway]:
    """Run one gateway for this module."""
    text = TEXT.format_map(shop.ports)
    with gateway(text, whole=True) as started:
        yield started


def token(shop: Shop, user: str) -> dict[str, str]:
    """Return a user's credential."""
    text = ask(shop.ports["issuer"], f"/token?user={user}&raw=1").body.decode()
    return {"Authorization": f"Bearer {text}"}


def test_a_request_reaches_its_upstream(running: Gateway) -> None:
    """With its query as sent, and an id that the client gets back."""
    reply = running.ask("/open/a?b=1&b=2")
    assert reply.json["path"] == "/open/a?b=1&b=2"
    assert reply.headers["x-request-id"] == reply.sent["x-request-id"]
    assert not [name for name in reply.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize(
    ("target", "method", "status", "reason"),
    [
        ("/nowhere", "GET", 404, "no_route"),
        ("/open", "GET", 404, "no_route"),
        ("/shaped", "GET", 405, "method_not_allowed"),
        ("/open/x", "OPTIONS", 405, "method_not_allowed"),
        ("/gone", "GET", 502, "upstream_failed"),
        ("/ads", "GET", 504, "upstream_deadline"),
        ("/open/a%2fb", "GET", 400, "malformed"),
        ("/open/a%5cb", "GET", 400, "malformed"),
        ("/private/x", "GET", 401, "unauthenticated"),
    ],
)
def test_problems(running: Gateway, target: str, method: str, status: int, reason: str) -> None:
    """Whoever makes it, an error is a problem that names the request."""
    reply = running.ask(target, method=method)
    assert (reply.status, reply.reason) == (status, reason)
    # Envoy gives no id to a request whose path it refuses to read.
    assert reply.json["instance"] == reply.headers.get("x-request-id")
    assert reply.json["status"] == status
    assert "127.0.0.1" not in reply.body.decode()


def test_conditions_on_headers_and_query(running: Gateway) -> None:
    """All must hold; where they don't, there is nothing (404), and other methods are refused."""
    beta = {"x-beta": "1"}
    assert running.ask("/beta?on=1", headers=beta).status == 200
    assert running.ask("/beta", headers=beta).reason == "no_route"
    assert running.ask("/beta?on=1", headers={"x-beta": "2"}).reason == "no_route"
    assert running.ask("/beta?on=1", headers=beta, method="PUT").reason == "method_not_allowed"


def test_405_names_what_is_allowed(running: Gateway) -> None:
    """RFC 9110 section 15.5.6."""
    assert running.ask("/shaped").headers["allow"] == "POST"


def test_identity_and_policies(running: Gateway, shop: Shop) -> None:
    """Who may gets through as themselves; others are told apart."""
    reply = running.ask("/private/x", headers=token(shop, "alice"))
    assert reply.status == 200
    assert reply.sent["x-user"] == "alice"
    assert "authorization" not in reply.sent
    assert running.ask("/private/x", headers=token(shop, "carol")).status == 403
    bad = {"Authorization": "Bearer a.b.c"}
    assert running.ask("/private/x", headers=bad).status == 401


@pytest.mark.parametrize("name", ["x-user", "X-User", "X-USER"])
def test_h1_clients_can_not_say_who_they_are(running: Gateway, shop: Shop, name: str) -> None:
    """H1: on public and on protected routes."""
    assert "x-user" not in running.ask("/open/x", headers={name: "root"}).sent
    reply = running.ask("/private/x", headers=token(shop, "bob") | {name: "root"})
    assert reply.sent["x-user"] == "bob"


def test_h2_underscores_are_refused(running: Gateway) -> None:
    """H2: another spelling of the same header for some upstreams."""
    assert running.ask("/open/x", headers={"X_User": "root"}).status == 400


LONG = "x-acme-platform-internal-user-subject-identifier-for-upstream-services"
LONGER = "-".join(f"x{number}-of-all-the-names" for number in range(8))


def test_h2_no_spelling_of_an_identity_header_passes(echo: int) -> None:
    """H2: however long its name is, and whatever stands between its words."""
    names = [LONG, LONGER, "x_subject", "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-t-u-v-w-x-y-z"]
    headers = "".join(f"{name}: '{{principal.kind}}', " for name in names)
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
identity: {{headers: {{{headers}}}}}
routes: [{{name: open, match: {{path: /x}}, upstream: echo, authentication: none}}]
"""
    forged = {
        name.replace("_", "-").replace("-", mark): "evil"
        for name in names
        for mark in ("-", ".", "~", "!")
    }
    forged |= {name.replace("_", "-").replace("-", ".", 1): "evil" for name in names}
    near = {"x-subjects": "mine", "xasubject": "mine", LONG[:-1]: "mine", f"x{LONG}": "mine"}
    near |= {LONG.replace("-", "a", 1): "mine"}
    with gateway(text) as running:
        sent = running.ask("/x", headers=forged | near).sent
    assert "evil" not in sent.values()
    assert near.items() <= sent.items()


@pytest.mark.parametrize(
    "name",
    [
        "x-http-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-prefix",
        "x-middleware-subrequest",
    ],
)
def test_h10_h14_p11_control_headers_are_removed(running: Gateway, name: str) -> None:
    """H10, H14, P11: nothing steers an upstream around what was judged."""
    assert name not in running.ask("/open/x", headers={name: "x"}).sent


def test_h4_hop_by_hop_names_do_not_take_identity_away(running: Gateway, shop: Shop) -> None:
    """H4: a client names the identity header in Connection."""
    headers = token(shop, "alice") | {"Connection": "x-user, close"}
    assert running.ask("/private/x", headers=headers).sent["x-user"] == "alice"


@pytest.mark.parametrize(
    "path",
    [
        "/open/../private/x",
        "/open/%2e%2e/private/x",
        "//private/x",
        "/private//x",
        "/./private/x",
        "/open/.%2e/private/x",
    ],
)
def test_p2_p4_no_way_around(running: Gateway, path: str) -> None:
    """P2, P4: the path that is judged is the path that is routed."""
    assert running.ask(path).status == 401


@pytest.mark.parametrize(
    "line",
    [
        "GET /open/x#/../private HTTP/1.1",
        "GET http://evil/private/x HTTP/1.1",
        "get /open/x HTTP/1.1",
        "FOO /open/x HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET /open/\x01 HTTP/1.1",
        "GARBAGE",
    ],
)
def test_p7_p10_h11_strange_request_lines(running: Gateway, line: str) -> None:
    """P7, P10, H11: never an upstream, always an answer."""
    reply = raw(running.port, f"{line}\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
    status = int(reply.split(b" ", 2)[1])
    assert status in {400, 401, 404, 405}, reply


@pytest.mark.parametrize(
    "head",
    [
        "Host: a\r\nHost: b",
        "Host: shop\r\nX: a\x00b",
        "Host: shop\r\n :x: y",
        "Host: shop\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
    ],
)
def test_h7_h13_b5_strange_heads(running: Gateway, head: str) -> None:
    """H7, H13, B5: refused as malformed."""
    reply = raw(running.port, f"GET /open/x HTTP/1.1\r\n{head}\r\n\r\n".encode("latin-1"))
    assert reply.split(b" ", 2)[1] in {b"400", b"404"}, reply


def test_f6_a_body_over_the_bound(running: Gateway) -> None:
    """F6: 413 as a problem; chunked bodies count as well."""
    large = b"x" * (2 << 20)
    for target in ("/open/x", "/shaped"):
        reply = running.ask(target, method="POST", body=large)
        assert (reply.status, reply.reason) == (413, "request_too_large")


def test_h8_a_head_over_the_bound(running: Gateway) -> None:
    """H8: 431."""
    reply = running.ask("/open/x", headers={f"x-{n}": "y" * 1000 for n in range(90)})
    assert reply.status == 431


def test_bodies_are_shaped(running: Gateway) -> None:
    """Content-length follows the new body."""
    reply = running.ask("/shaped", method="POST", body=b'{"n": 5}')
    assert json.loads(reply.json["body"]) == {"doubled": [5, 5]}
    assert reply.sent["content-length"] == str(len(reply.json["body"]))
    assert running.ask("/shaped", method="POST", body=b"no json").reason == "malformed_body"


def test_an_answer_over_the_bound(running: Gateway) -> None:
    """A response that a plugin must see whole is bounded; the upstream is to blame (502)."""
    reply = running.ask("/large", method="POST", body=b"x" * 900_000)
    assert (reply.status, reply.reason) == (502, "upstream_too_large")
    # Requests may be larger, and Envoy has one bound for both where both are seen whole.
    for size, status in ((300_000, 200), (700_000, 502)):
        reply = running.ask("/both", method="POST", body=json.dumps("x" * size).encode())
        assert reply.status == status
    assert reply.reason == "upstream_too_large"


def test_hosts(running: Gateway) -> None:
    """H13: case, port and trailing dot don't matter; a suffix isn't any host."""
    for host in ("a.example.com", "A.EXAMPLE.com", "a.example.com:80", "a.example.com."):
        assert running.ask("/open/x", headers={"Host": host}).json["path"] == "/host", host
    for host in ("example.com", "aexample.com", "a.example.com.evil"):
        assert running.ask("/open/x", headers={"Host": host}).json["path"] == "/open/x", host


def test_answers_are_compressed(running: Gateway) -> None:
    """Also those that the upstream sends plain."""
    headers = {"Accept-Encoding": "gzip", "x-long": "y" * 2000}
    reply = running.ask("/open/x", headers=headers)
    assert reply.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(reply.body))["path"] == "/open/x"


def test_h9_only_trusted_proxies_say_where_a_client_is(running: Gateway) -> None:
    """H9: by default nobody does."""
    reply = running.ask("/open/x", headers={"x-forwarded-for": "203.0.113.9"})
    last = reply.sent["x-forwarded-for"].split(",")[-1].strip()
    assert last != "203.0.113.9"


def test_head_and_empty_answers(running: Gateway) -> None:
    """GET answers HEAD, without a body."""
    reply = running.ask("/open/x", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")


def raw(port: int, data: bytes) -> bytes:
    """Send bytes and return what comes until the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        connection.settimeout(5)
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
                if b"\r\n\r\n" in received:
                    break
        except TimeoutError:
            pass
        return received
