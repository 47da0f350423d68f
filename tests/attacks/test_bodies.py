"""Attacks on bodies, transformation and aggregation, through a real Envoy (section B)."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest

from tests.attacks.wire import Answer, exchange, request
from tests.support.client import ask
from tests.support.counting import Counting, Got, Say, counting
from tests.support.processes import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXT = """
upstreams:
  echo: {endpoints: ["http://127.0.0.1:UPSTREAM"], timeout: 5s}
  partner: {endpoints: ["http://127.0.0.1:UPSTREAM"], identity: none}
  trusted: {endpoints: ["http://127.0.0.1:UPSTREAM"], forward_credentials: true}
identity: {headers: {x-user: "{principal.kind}"}}
authentication:
  keys: {api_key: {header: x-api-key, file: keys.jsonl}}
defaults: {authentication: none}
routes:
  - {name: transform, match: {path: /transform, methods: [POST]}, upstream: echo, request: {body: "{value: value, role: role}"}}
  - {name: back, match: {path: "/back/{kind}"}, upstream: echo, rewrite: {path: "/{request.params.kind}"}, response: {body: "{value: value}"}}
  - name: fan
    match: {path: /fan, methods: [POST]}
    aggregate:
      calls: {part: {upstream: echo, method: POST, path: /sent, body: {value: "{request.body.value}"}}}
      response: "part"
  - name: part
    match: {path: "/part/{kind}"}
    aggregate:
      deadline: 2s
      calls: {part: {upstream: echo, path: "/{request.params.kind}", max_bytes: 256KiB}}
      response: "part"
  - name: one
    match: {path: /one}
    aggregate:
      calls: {part: {upstream: echo, path: "/things/{request.query.id}/end?q={request.query.q}&fixed=1", headers: {x-given: "{request.query.h}"}}}
      response: "part"
  - name: second
    match: {path: "/second/{kind}"}
    aggregate:
      calls:
        first: {upstream: echo, path: "/{request.params.kind}"}
        second: {upstream: echo, path: "/things/{first.id}?q={first.id}", headers: {x-given: "{first.id}"}}
      response: "second"
  - name: header
    match: {path: "/header/{id}"}
    upstream: echo
    rewrite: {path: /fine}
    response: {headers: {set: {x-id: "{request.params.id}"}}}
  - name: heavy
    match: {path: /heavy}
    aggregate:
      deadline: 3s
      calls: {part: {upstream: echo, path: /heavy}}
      response: "part[?@[?@[?@[?@[?@]]]]] | length(@)"
  - name: told
    match: {path: /told}
    authentication: [keys, anonymous]
    aggregate:
      calls:
        ours: {upstream: echo, path: /fine}
        theirs: {upstream: partner, path: /fine}
        trusted: {upstream: trusted, path: /fine}
      response: "[ours.path, theirs.path, trusted.path]"
"""
BOMB = gzip.compress(b'{"value": "' + b"x" * 50_000_000 + b'"}')
KINDS: dict[str, Callable[[], Say]] = {
    "deep": lambda: Say(body=b"[" * 1025 + b"]" * 1025),
    "deeper": lambda: Say(body=b"[" * 100_000 + b"]" * 100_000),
    "nan": lambda: Say(body=b'{"value": NaN}'),
    "infinite": lambda: Say(body=b'{"value": 1e400}'),
    "digits": lambda: Say(body=b'{"value": ' + b"9" * 5000 + b"}"),
    "utf16": lambda: Say(body='{"value": 1}'.encode("utf-16")),
    "overlong": lambda: Say(body=b'{"value": "\xc0\xaf"}'),
    "yaml": lambda: Say(body=b"value: 1"),
    "cut": lambda: Say(body=b'{"value": 1', length=500, then="close"),
    "large": lambda: Say(body=b'"' + b"x" * 300_000 + b'"'),
    "bomb": lambda: Say(body=BOMB, headers={"content-encoding": "gzip"}),
    "twice-encoded": lambda: Say(
        body=gzip.compress(gzip.compress(b"1")), headers={"content-encoding": "gzip, gzip"}
    ),
    "half-encoded": lambda: Say(
        body=gzip.compress(b"1" * 99)[:-9], headers={"content-encoding": "gzip"}
    ),
    "not-encoded": lambda: Say(body=b'{"value": 1}', headers={"content-encoding": "gzip"}),
    "strange": lambda: Say(body=b"1", headers={"content-encoding": "br"}),
    "redirect": lambda: Say(status=302, headers={"location": "http://169.254.169.254/latest"}),
    "forbidden": lambda: Say({}, status=401, headers={"www-authenticate": "Basic realm=x"}),
}
GOOD: dict[str, Callable[[], Say]] = {
    "mark": lambda: Say(body=b'\xef\xbb\xbf{"value": 1}'),
    "exact": lambda: Say(
        body=b'{"value": [18446744073709551616, 9007199254740993, 0.1, -9223372036854775809]}'
    ),
    "keys": lambda: Say(
        body=b'{"value": {' + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}}"
    ),
    "encoded": lambda: Say(
        body=gzip.compress(b'{"value": 1}'), headers={"content-encoding": "gzip"}
    ),
    "deflated": lambda: Say(
        body=zlib.compress(b'{"value": 1}'), headers={"content-encoding": "deflate"}
    ),
    "evil": lambda: Say({"id": "@evil/../../?a=b&c=d#x\r\nhost: evil"}),
    "dots": lambda: Say({"id": ".."}),
    "fine": lambda: Say({"value": 1}),
}


def upstream_says(got: Got) -> Say:
    """Misbehave as the path says; else say what came."""
    kind = got.path.removeprefix("/")
    if kind == "heavy":
        level: Any = [1] * 28
        for _ in range(3):
            level = [level] * 28
        return Say(level)
    if kind in KINDS or kind in GOOD:
        return (KINDS | GOOD)[kind]()
    return Say({"path": got.target, "headers": got.headers, "body": got.body.decode("latin-1")})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    """Run the upstream."""
    with counting(upstream_says) as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: Counting) -> Iterator[Gateway]:
    """Run the gateway."""
    with gateway(TEXT.replace("UPSTREAM", str(upstream.port)), {"keys.jsonl": ""}) as started:
        yield started


@pytest.fixture
def place(running: Gateway, upstream: Counting) -> Iterator[Gateway]:
    """Return the gateway; afterwards its log holds no traceback."""
    upstream.forget()
    yield running
    assert "Traceback" not in running.said()


def post(place: Gateway, path: str, body: bytes, kind: str = "application/json") -> Answer:
    """Post bytes."""
    head = (("content-type", kind),)
    return exchange(place.port, request(path, *head, method="POST", body=body))


HOSTILE = [
    b"[" * 1025 + b"]" * 1025,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"value": ' + b"9" * 5000 + b"}",
    b'{"value": 1e400}',
    b'{"value": NaN}',
    '{"value": 1}'.encode("utf-16"),
    '{"value": 1}'.encode("utf-32"),
    b'\xef\xbb\xbf{"value": 1}',
    b'{"value": "\xed\xa0\x80"}',
    b'{"value": "\xc0\xaf"}',
    b"value: 1",
    b"{'value': 1}",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", ["/fan", "/transform"])
def test_b1_b3_bodies_that_are_not_read(
    place: Gateway, upstream: Counting, path: str, body: bytes
) -> None:
    """400 and nothing upstream: too deep, no finite numbers, other encodings, no JSON."""
    answer = post(place, path, body)
    assert answer.status == 400, answer
    assert not upstream.got
    assert place.ask("/part/fine").status == 200


@pytest.mark.parametrize("number", ["9007199254740993", "-9223372036854775807", "0.1", "1e300"])
def test_b1_numbers_pass_as_they_are(place: Gateway, upstream: Counting, number: str) -> None:
    """Precision is kept, in requests and in parts."""
    assert post(place, "/fan", b'{"value": %s}' % number.encode()).status == 200
    assert json.loads(upstream.got[0].body) == {"value": json.loads(number)}
    exact = place.ask("/part/exact").json["value"]
    assert exact == [2**64, 2**53 + 1, 0.1, -(2**63) - 1]


def test_b1_many_members(place: Gateway) -> None:
    """A hundred thousand are larger than this part may be, and end nothing else."""
    began = time.monotonic()
    assert place.ask("/part/keys").status == 502
    assert time.monotonic() - began < 5
    assert place.ask("/part/fine").status == 200


def test_b2_one_name_twice(place: Gateway, upstream: Counting) -> None:
    """A body whose reading is open is refused, or what was read is what is sent."""
    body = b'{"value": 1, "role": "user", "role": "admin"}'
    assert post(place, "/fan", body).status == 400
    answer = post(place, "/transform", body)
    if answer.status == 200:
        sent = upstream.got[-1].body
        assert sent.count(b"role") == 1
        assert post(place, "/transform", b'{"role": "user", "ROLE": "admin"}').status == 200
        assert b"ROLE" not in upstream.got[-1].body


@pytest.mark.parametrize("kind", KINDS)
def test_b1_b3_b4_parts_that_are_not_taken(place: Gateway, kind: str) -> None:
    """502 that names the part, in bounded time; nothing of the upstream's answer shows."""
    began = time.monotonic()
    reply = place.ask(f"/part/{kind}")
    assert reply.status == 502, kind
    assert reply.reason == "part_failed"
    assert "part" in reply.json["detail"]
    assert {"location", "www-authenticate", "content-encoding"}.isdisjoint(reply.headers)
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("kind", ["encoded", "deflated"])
def test_b4_an_encoding_that_was_not_asked_for(place: Gateway, kind: str) -> None:
    """Is undone within bounds."""
    assert place.ask(f"/part/{kind}").json == {"value": 1}


@pytest.mark.parametrize("path", ["/part/mark", "/back/mark"])
def test_b3_a_mark_before_what_an_upstream_says(place: Gateway, path: str) -> None:
    """B3: is ignored (RFC 8259 section 8.1); before what a client says it is refused, above."""
    assert place.ask(path).json == {"value": 1}


def test_b5_lengths_follow_the_body(place: Gateway, upstream: Counting) -> None:
    """A transformed body has its own length, both ways."""
    answer = post(place, "/transform", b'{"value": "%s", "more": "%s"}' % (b"x" * 50, b"y" * 5000))
    assert answer.status == 200
    got = upstream.got[0]
    assert int(got.headers["content-length"]) == len(got.body) < 200
    reply = place.ask("/back/fine")
    assert int(reply.headers["content-length"]) == len(reply.body)


@pytest.mark.parametrize(
    "framing",
    [
        [("transfer-encoding", "chunked"), ("content-length", "3")],
        [("content-length", "3"), ("content-length", "4")],
        [("transfer-encoding", "xchunked")],
        [("transfer-encoding", "chunked, chunked")],
        [("transfer-encoding", "identity")],
        [("content-length", "+3")],
    ],
)
def test_b5_framing_that_two_read_differently(
    place: Gateway, upstream: Counting, framing: list[tuple[str, str]]
) -> None:
    """400 (or Envoy's 501), and no request that was smuggled."""
    body = b"0\r\n\r\nGET /part/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = exchange(place.port, request("/fan", *framing, method="POST", body=body))
    assert answer.status in {0, 400, 501}, answer
    assert "/smuggled" not in upstream.paths()


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=y", "a\0b", "ü", "a\nb", "\u2028"])
def test_b6_a_header_out_of_data(place: Gateway, value: str) -> None:
    """Control and other bytes are percent-encoded, or the request is refused."""
    answer = exchange(place.port, request(f"/header/{quote(value)}"))
    assert answer.status in {200, 400}
    assert answer.header("set-cookie") is None
    if answer.status == 200:
        text = answer.header("x-id") or ""
        assert text.isprintable()
        assert text.isascii()


EVIL = [
    "@evil",
    "//evil",
    "..%2f..",
    "#x",
    "?x=y",
    "\\evil",
    "a\r\nHost: evil",
    "1.2.3.4:80/",
    "http://evil/",
    "a&fixed=2",
    "a;b",
    "%2e%2e",
    "unix:/tmp/x",
    "0x7f.1",
]


@pytest.mark.parametrize("value", EVIL)
def test_b7_no_value_changes_what_is_called(place: Gateway, upstream: Counting, value: str) -> None:
    """One segment, one parameter, one header value; the authority is the upstream's."""
    answer = exchange(
        place.port,
        request(
            f"/one?id={quote(value, safe='')}&q={quote(value, safe='')}&h={quote(value, safe='')}"
        ),
    )
    assert answer.status == 200, answer
    (got,) = upstream.got
    path, _, query = got.target.partition("?")
    _, things, segment, end = path.split("/")
    assert (things, end) == ("things", "end")
    assert unquote(segment) == value
    assert [pair.partition("=")[0] for pair in query.split("&")] == ["q", "fixed"]
    assert got.query == {"q": [value], "fixed": ["1"]}
    assert got.headers["host"] == "echo"
    assert unquote(got.headers["x-given"]) == value.strip()


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_b7_segments_that_are_none(place: Gateway, upstream: Counting, value: str) -> None:
    """The request is refused, and the call isn't made."""
    reply = place.ask(f"/one?id={value}&q=1")
    assert (reply.status, reply.reason) == (400, "malformed")
    assert reply.json["detail"] == "The part part needs request.query.id, which isn't there."
    assert not upstream.got


def test_b7_what_an_upstream_says_changes_nothing_either(
    place: Gateway, upstream: Counting
) -> None:
    """Keys out of answers are values as any other; redirects are not followed."""
    assert place.ask("/second/evil").status == 200
    got = upstream.got[1]
    assert got.path.count("/") == 2
    assert got.query == {"q": ["@evil/../../?a=b&c=d#x\r\nhost: evil"]}
    assert got.headers["host"] == "echo"
    assert place.ask("/second/dots").status == 502
    upstream.forget()
    assert place.ask("/part/redirect").status == 502
    assert len(upstream.got) == 1


@pytest.mark.parametrize(
    "value",
    ["{{7*7}}", "${7*7}", "%{7*7}", "{0.__class__}", "__proto__", "{request.id}", "{keys}", "[].*"],
)
def test_b8_templates_in_data_are_text(place: Gateway, upstream: Counting, value: str) -> None:
    """Nothing that came is evaluated."""
    body = json.dumps({"value": {value: value}}).encode()
    assert post(place, "/fan", body).status == 200
    assert upstream.got[0].json == {"value": {value: value}}
    upstream.forget()
    assert place.ask(f"/one?id={quote(value, safe='')}").status == 200
    assert unquote(upstream.got[0].path.split("/")[2]) == value


def test_b9_an_expression_over_hostile_data_ends(place: Gateway) -> None:
    """Five nested filters over 600,000 elements: 502 in bounded time, others go on."""
    began = time.monotonic()
    reply = place.ask("/heavy")
    assert (reply.status, reply.reason) == (502, "part_too_much")
    assert time.monotonic() - began < 4
    assert place.ask("/part/fine").status == 200


def test_b10_who_is_told_what(place: Gateway, upstream: Counting) -> None:
    """A partner gets neither identity nor credentials; a trusted one what the client sent."""
    headers = {"authorization": "Bearer t", "x-user": "root", "cookie": "c=1"}
    reply = ask(place.port, "/told", headers=headers)
    assert reply.status == 200, reply.body
    got = {g.headers["host"]: g.headers for g in upstream.got}
    assert got["echo"]["x-user"] == "anonymous"
    assert "x-user" not in got["partner"]
    assert all("authorization" not in h and "cookie" not in h for h in got.values())
    upstream.forget()
    refused = ask(place.port, "/told", headers={"x-api-key": "nobody-1"})
    assert refused.status == 401
    assert not upstream.got


def test_b10_one_part_answers_401(place: Gateway) -> None:
    """It is the part that is broken; the client's credentials are not in question."""
    reply = place.ask("/part/forbidden")
    assert reply.status == 502


def test_b12_naughty_texts_pass(place: Gateway, upstream: Counting) -> None:
    """Through body, path and header they come back as they were."""
    texts = [
        "\u202e\u2066", "\U0001d573\u0301", "\ufeffx", "ﷺ" * 50, "'; DROP TABLE x--", "<script>", "null",
        "undefined", "-1/0", "\u0007", "\x7f", "$(touch /tmp/x)", "../../etc/passwd", "%s%n", "🏳️‍🌈",
    ]  # fmt: skip
    for text in texts:
        upstream.forget()
        assert post(place, "/fan", json.dumps({"value": text}).encode()).status == 200
        assert upstream.got[0].json == {"value": text}
        assert place.ask(f"/one?id={quote(text, safe='')}").status == 200
        assert unquote(upstream.got[1].path.split("/")[2]) == text
