"""Policies over bodies through a real Envoy: what is judged is what the upstream reads."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters import service, wire_authz
from extproc.adapters.messages import ext_authz_pb2
from extproc.authorization.bodies import Read, WrongBody, body_of
from extproc.core.headers import Headers
from extproc.core.strict_json import NotStrict
from extproc.core.values import Request
from extproc.expressions.conditions import condition
from tests.support.client import ask
from tests.support.processes import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.processes import Shop

JSON = {"content-type": "application/json"}
REST = """
decisions: {{file: records.jsonl}}
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
defaults: {{authentication: none}}
policies:
  small: {{rules: [{{name: small, allow: 'request.body.total <= 100.0 && request.body.role != "admin"'}}]}}
  posts: {{rules: [{{name: posts, allow: 'request.method == "POST"'}}]}}
  none-named: {{rules: [{{name: any, allow: 'true'}}, {{name: named, deny: 'request.body.exists(name, name == "forbidden")'}}]}}
  none-forbidden: {{rules: [{{name: any, allow: 'true'}}, {{name: forbidden, deny: 'request.body.forbidden == true'}}]}}
routes:
  - {{name: order, match: {{path: /order}}, upstream: echo, body: json, authorization: [posts, small]}}
  - {{name: shaped, match: {{path: /shaped}}, upstream: echo, body: json, authorization: small, request: {{body: '{{sum: total}}'}}}}
  - {{name: json, match: {{path: /json}}, upstream: echo, body: json}}
  - {{name: deny, match: {{path: /deny}}, upstream: echo, body: json, authorization: none-forbidden}}
  - {{name: names, match: {{path: /names}}, upstream: echo, body: json, authorization: none-named}}
  - {{name: own, match: {{path: "/own/{{what}}"}}, upstream: echo, body: json, authorization: small, plugins: [{{use: "own.py:Own"}}]}}
  - {{name: calls, match: {{path: /calls}}, body: json, authorization: small, aggregate: {{calls: {{a: {{upstream: echo, path: /a}}}}, response: a}}}}
"""
OWN = """
from extproc import Plugin, Request, Response


class Own(Plugin):
    def on_start(self, services):
        self.services = services

    async def on_request(self, request: Request) -> Response | None:
        what = request.params["what"]
        if what == "calls":
            await self.services.call("echo", "GET", "/called")
        if what == "answers":
            return Response.json({"secret": 1})
        request.headers["x-own"] = request.body.decode()
        request.rewrite("/moved")

    def on_request_body(self, request: Request, body: bytes) -> bytes:
        return body + b" "
"""


@pytest.fixture(scope="module")
def place(shop: Shop) -> Iterator[Gateway]:
    """Run a gateway."""
    with gateway(REST.format(echo=shop.ports["echo"]), {"own.py": OWN}) as running:
        yield running


def seen(echo: int) -> int:
    """Return how many requests the upstream got."""
    return len(ask(echo, "/__requests").json["paths"])


def test_a_body_is_judged(place: Gateway, echo: int) -> None:
    """By the policies that read it; it goes on as it came."""
    good = b'{"total": 7.5,  "role": "user"}'
    answer = place.ask("/order", method="POST", headers=JSON, body=good)
    assert (answer.status, answer.json["body"]) == (200, good.decode())
    for bad in (b'{"total": 101, "role": "user"}', b'{"total": 1, "role": "admin"}', b"{}", b"[]"):
        assert place.ask("/order", method="POST", headers=JSON, body=bad).status == 401
    assert place.ask("/order", method="PUT", headers=JSON, body=good).status == 401
    assert seen(echo) == 1


def test_no_body_is_null(place: Gateway) -> None:
    """An allow rule that reads it has no value; a deny rule that does denies."""
    assert place.ask("/order", method="POST").status == 401
    assert place.ask("/deny").status == 401
    assert place.ask("/json").status == 200
    allowed = place.ask("/deny", method="POST", headers=JSON, body=b'{"forbidden": false}')
    assert allowed.status == 200


@pytest.mark.parametrize("target", ["/own/answers", "/own/calls", "/own/passes", "/calls"])
def test_nothing_is_done_before_the_body_was_judged(place: Gateway, echo: int, target: str) -> None:
    """A plugin neither answers nor calls for a body that no policy allows, or for none."""
    for body in (b'{"total": 101, "role": "user"}', None):
        headers = JSON if body else {}
        answer = place.ask(target, method="POST", headers=headers, body=body)
        assert (answer.status, b"secret" in answer.body) == (401, False)
    assert place.ask(target, method="POST", headers=JSON, body=b"{").status == 400
    assert seen(echo) == 0


def test_what_comes_after_the_judgement_counts(place: Gateway) -> None:
    """Plugins answer, or change headers, path and body, of what a policy allows."""
    good = b'{"total": 7, "role": "user"}'
    answer = place.ask("/own/answers", method="POST", headers=JSON, body=good)
    assert (answer.status, answer.json) == (200, {"secret": 1})
    answer = place.ask("/own/passes", method="POST", headers=JSON, body=good)
    assert (answer.json["path"], answer.sent["x-own"]) == ("/moved", good.decode())
    assert answer.json["body"] == good.decode() + " "
    assert place.ask("/calls", method="POST", headers=JSON, body=good).status == 200


def test_the_body_is_shaped_after_it_was_judged(place: Gateway) -> None:
    """Policies read what the client sent."""
    body = json.dumps({"total": 5, "role": "user"}).encode()
    answer = place.ask("/shaped", method="POST", headers=JSON, body=body)
    assert answer.json["body"] == '{"sum":5}'


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        ({"content-type": "text/plain"}, b"{}", 415, "body_type"),
        ({}, b"{}", 415, "body_type"),
        ({"content-type": "application/json;charset=utf-16"}, b"{}", 415, "body_type"),
        ({"content-type": "x=application/json"}, b"{}", 415, "body_type"),
        ({"content-type": "application/json, text/plain"}, b"{}", 415, "body_type"),
        (JSON | {"content-encoding": "gzip"}, b"{}", 415, "body_type"),
        (JSON, b"\xef\xbb\xbf{}", 400, "malformed_body"),
        (JSON, b'{"role":"user","role":"admin"}', 400, "malformed_body"),
        (JSON, b'{"role":"user","ROLE":"admin"}', 400, "malformed_body"),
        (JSON, b'{"total":1e999}', 400, "malformed_body"),
        (JSON, b"role: admin", 400, "malformed_body"),
        (JSON, b"[" * 5000, 400, "malformed_body"),
    ],
)
def test_H16_a_body_that_can_be_read_in_two_ways(
    place: Gateway, echo: int, headers: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    """It is refused, and nothing reaches the upstream."""
    answer = place.ask("/json", method="POST", headers=headers, body=body)
    assert (answer.status, answer.reason) == (status, reason)
    assert seen(echo) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"forbidden": false, "Forbidden": true}', 400),
        (b'{"Forbidden": true}', 400),
        (b'{"x": {"FORBIDDEN": true}}', 400),
        (b'{"forbidden": 9007199254740993}', 400),
        (b'{"forbidden": [-9007199254740993]}', 400),
        (b'{"forbidden": false, "Other": 9007199254740993, "Body": 1, "Method": 1}', 200),
    ],
)
def test_B2_what_some_readers_take_for_what_is_judged(
    place: Gateway, echo: int, body: bytes, status: int
) -> None:
    """B1, B2: other capitals alone, and numbers that aren't the same in floats."""
    answer = place.ask("/deny", method="POST", headers=JSON, body=body)
    assert answer.status == status
    assert seen(echo) == (status == 200)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"forbidden": 1}', 401), (b'{"Forbidden": 1}', 400), (b'{"Other": 1}', 200)],
)
def test_B2_names_that_a_rule_goes_through(
    place: Gateway, echo: int, body: bytes, status: int
) -> None:
    """B2: as for those that it names itself."""
    answer = place.ask("/names", method="POST", headers=JSON, body=body)
    assert answer.status == status
    assert seen(echo) == (status == 200)


@pytest.mark.parametrize(
    ("source", "value", "refused"),
    [
        ("request.body.a.b == 1", {"B": 1}, True),
        ("request.body['a b'] == 1", {"A B": 1}, True),
        ("'a' in request.body", {"A": 1}, True),
        ("request.body.type == 'Order'", {"type": "Order", "order": 1}, False),
        ("request.body.names.size() > 1", {"Size": 1}, False),
        ("request.body.a == 1 && request.path == '/'", {"Path": 1}, False),
        ("request.body.a[0] == 1", {"b": 2**60}, False),
        ("request.body.a[0] == 1", {"a": [2**60]}, True),
        ("request.body[request.method] == 1", {"b": 2**60}, True),
        ("request.method == 'a'", {"Method": 2**60}, False),
        ("request.body[0] == 1", [2**60], True),
        ("request.body.exists(x, x == 1)", [[1], [2**60]], True),
        ("request.body.exists(x, x.a == 1)", [{"a": 1, "b": 2**60}], False),
        ("!(1 in request.body)", [1, 2**60], True),
        ("request.body == 1", 2**60, True),
        ("request.body.a == 1", [2**60], False),
        ("request.body.exists(n, n == 'admin')", {"Admin": 1}, True),
        ("!request.body.all(n, 'admin' != n)", {"ADMIN": 1}, True),
        ("request.body.exists(n, n in ['a', 'admin'])", {"Admin": 1}, True),
        ("request.body.of.exists(n, n == 'admin')", {"of": {"Admin": 1}}, True),
        ("request.body.list.exists(o, o.exists(n, n == 'a'))", {"list": [{"A": 1}]}, True),
        ("request.body.filter(n, n != 'b').exists(n, n == 'a')", {"A": 1}, True),
        ("request.body.exists(n, n == 'admin')", {"admin": 1}, False),
        ("request.body.exists(n, n.lowerAscii() == 'admin')", {"Admin": 1}, False),
        ("request.body.items.exists(i, i.currency == 'EUR')", {"eur": 1}, False),
        ("principal.scopes.exists(s, s == 'a') && request.body.b == 1", {"A": 1}, False),
    ],
)
def test_which_members_are_judged(source: str, value: object, *, refused: bool) -> None:
    """Those that a condition names; where a name is computed, any."""
    read = Read([condition(source, body=True)])
    if refused:
        with pytest.raises(NotStrict):
            read.check(value)
    else:
        read.check(value)


_NAMES = st.sampled_from(["a", "A", "b", "B", "c"])
_BODIES = st.recursive(
    st.sampled_from([1, 2**53, -(2**53) - 1, 2**60, 1e300, True, None, "a"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_NAMES, inside, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(
        [
            ("request.body.a == 1", {"a"}),
            ("request.body.a.b[0] == 1", {"a", "b"}),
            ("request.body[request.method] == 1", set()),
        ]
    ),
    _BODIES,
)
def test_every_value_is_looked_at(judged: tuple[str, set[str]], value: object) -> None:
    """Wherever it stands; by the rule as it is written down, value by value."""
    source, named = judged

    def differs(value: object, *, read: bool) -> bool:
        if isinstance(value, dict):
            return any(
                (name not in named and name.casefold() in named)
                or differs(inside, read=not named or name in named)
                for name, inside in value.items()
            )
        if isinstance(value, list):
            return any(differs(inside, read=read) for inside in value)
        return read and isinstance(value, int) and abs(value) > 2**53

    read = Read([condition(source, body=True)])
    if differs(value, read=not named):
        with pytest.raises(NotStrict):
            read.check(value)
    else:
        read.check(value)


@pytest.mark.parametrize(
    "kind", ["Application/JSON", "application/json; charset=UTF-8", "application/ld+json"]
)
def test_what_says_json(place: Gateway, kind: str) -> None:
    """In any capitals, in UTF-8, with a suffix."""
    assert (
        place.ask("/json", method="POST", headers={"content-type": kind}, body=b"{}").status == 200
    )


def test_F6_bodies_in_every_framing(place: Gateway, echo: int) -> None:
    """Chunked ones are judged as well; one over the limit is 413."""
    head = b"POST /order HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    bad = b'{"total": 101, "role": "user"}'
    chunked = b"transfer-encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(bad), bad)
    assert b" 401 " in _raw(place.port, head + chunked)
    assert b" 401 " in _raw(place.port, head + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")
    large = b'{"total": 1, "role": "' + b"x" * (2 << 20) + b'"}'
    assert place.ask("/order", method="POST", headers=JSON, body=large).status == 413
    assert seen(echo) == 0


def _raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        return connection.recv(65_536)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-envoy-auth-partial-body": "true", "content-type": "application/json"},
        {"content-length": "7", "content-type": "application/json"},
    ],
)
def test_F6_a_body_that_was_cut(headers: dict[str, str]) -> None:
    """Over ext_authz Envoy says so, or sends none of it: neither is judged as if it were whole."""
    body = b"" if "content-length" in headers else b"{}"
    with pytest.raises(WrongBody) as caught:
        body_of(Request(headers=Headers(headers.items())), body, Read())
    assert (caught.value.status, caught.value.reason) == (413, "body_cut")


def test_ext_authz_decodes_the_body() -> None:
    """What `Check` hands on is what the rules read."""
    message = ext_authz_pb2.CheckRequest()
    message.attributes.request.http.method = "POST"
    message.attributes.request.http.raw_body = b"{}"
    event, body = wire_authz.decode(message.SerializeToString())
    assert (event.request.method, body) == ("POST", b"{}")
    assert service.check is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", body: json, authorization: [posts", ", authorization: [posts", "expected `body: json`"),
        (
            "body: json, authorization: small",
            "body: json, cache: {{ttl: 1s}}, authorization: small",
            "can't be combined with cache",
        ),
        (
            "defaults:",
            "consumers: {{a: {{when: 'request.body.x == 1'}}}}\ndefaults:",
            "reads request.body.x, which doesn.t exist",
        ),
    ],
)
def test_what_a_file_can_not_say(shop: Shop, old: str, new: str, said: str) -> None:
    """A rule over a body that nobody asked for, or that comes too late."""
    assert old in REST
    text = REST.replace(old, new, 1).format(echo=shop.ports["echo"])
    with pytest.raises(AssertionError, match=said), gateway(text, {"own.py": OWN}):
        pass
