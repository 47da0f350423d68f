"""L: what is written, and what must never be."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from extproc.authentication import api_keys
from tests.attacks.conftest import API_SECRET
from tests.attacks.minting import token
from tests.attacks.place import Place, bearer, denied, quiet
from tests.attacks.wire import Answer, Upstream, exchange, request, running
from tests.e2e.test_reload import r_ok
from tests.support.client import ask
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY, SECOND = "canary7Qz", "canary8Ry"

PLUGIN = """
from extproc import Plugin

class Fails(Plugin):
    def on_request(self, request):
        raise RuntimeError(str(request.headers.get("authorization")) + request.target)
"""
REST = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:UPSTREAM"]}}
decisions: {file: records.jsonl}
defaults: {authentication: none}
routes:
  - {name: fails, match: {path: /fails}, upstream: echo, plugins: [{use: "own.py:Fails"}]}
  - {name: bodies, match: {path: /bodies}, upstream: echo, request: {body: "@"}}
"""


@pytest.mark.parametrize(
    "text", ["\r\n{}", "\x1b[31m", '"}', "\u2028", "\U0001f600", "\\", "\x7f", "a" * 4000]
)
def test_L1_one_line_whatever_it_says(place: Place, text: str) -> None:
    """L1: in a subject, a key id, a path, a query and a user agent; each record is a JSON line."""
    escaped = "".join(f"%{byte:02x}" for byte in text.encode())
    agent = ("User-Agent", text.encode().decode("latin-1").replace("\r\n", " ")[:500])
    path = escaped[:900].replace("%5c", "")  # a backslash in a path is refused
    seen = place.get(f"/private/{path}?{escaped[:900]}", bearer(token(sub=f"x{text}")))
    assert place.record(seen)["principal"]["subject"].startswith(f"x{text}"[:100])
    denied(place, place.get("/private/x", bearer(token(head={"kid": text}))), 401, "kid")
    seen = place.get("/private/x", agent)
    assert seen.status in {400, 401}
    quiet(place.gateway.said())


def canaries() -> dict[str, tuple[bytes, int]]:
    """Return requests with a secret in each place, and their status."""
    good, text = bearer(token()), token(jti=CANARY)
    broken = f"{text.rpartition('.')[0]}.{CANARY}"
    key = api_keys.written("reader", CANARY * 4)
    canary = ("X-Other", CANARY)
    large = b"x" * (2 << 20)
    return {
        "token": (request("/private/x", bearer(f"{CANARY}.{CANARY}.{CANARY}")), 401),
        "signature": (request("/private/x", bearer(broken)), 401),
        "not a token": (request("/private/x", ("Authorization", f"Bearer {CANARY}")), 401),
        "basic": (request("/private/x", ("Authorization", f"Basic {CANARY}")), 401),
        "scheme": (request("/private/x", ("Authorization", CANARY)), 401),
        "key": (request("/key/x", ("x-api-key", key)), 401),
        "not a key": (request("/key/x", ("x-api-key", CANARY)), 401),
        "key, public": (request("/public/x", ("x-api-key", key), bearer(broken)), 200),
        "cookie": (request("/private/x", good, ("Cookie", f"s={CANARY}")), 200),
        "cookie, denied": (request("/private/x", ("Cookie", f"s={CANARY}")), 401),
        "query": (request(f"/private/x?api_key={CANARY}", good), 200),
        "query, denied": (request(f"/private/x?access_token={CANARY}"), 401),
        "query, no route": (request(f"/nowhere?token={CANARY}"), 404),
        "query, malformed": (request(f"/private/%2f?token={CANARY}"), 400),
        "query, fragment": (request(f"/private/x?token=#{CANARY}"), 400),
        "query, too large": (
            request(f'/bodies/x?t="{CANARY}', good, method="POST", body=large),
            413,
        ),
        "user info": (request(f"http://u:{CANARY}@shop.test/private/x"), 401),
        "header": (request("/private/x", good, canary), 200),
        "header, malformed": (request("/private/x", good, ("X_A", CANARY)), 400),
        "header, NUL": (request("/private/x", good, ("X-A", f"{CANARY}\0")), 400),
        "body": (request("/bodies/x", good, method="POST", body=CANARY.encode()), 400),
        "proxy": (request("/private/x", ("Proxy-Authorization", f"Basic {CANARY}")), 401),
        "upstream away": (request(f"/dead/x?token={CANARY}", good, canary), 502),
    }


def test_L2_secrets_are_written_nowhere(place: Place) -> None:
    """L2: logs, records, metrics, status and error bodies, on success, denial and failure."""
    for name, (data, status) in canaries().items():
        seen = place.send(data)
        assert seen.status == status, (name, seen)
        if status >= 400:
            assert CANARY.encode() not in seen.answer.body, name
            assert CANARY not in str(seen.answer.headers), name
    last = place.get("/private/last")
    place.record(last)
    everything = written_by(place.gateway.admin, place.gateway.said())
    everything += (place.gateway.folder / "records.jsonl").read_text()
    assert CANARY not in everything, _around(everything)
    assert API_SECRET not in everything


def written_by(admin: int, said: str) -> str:
    """Return a gateway's log and what its administration says."""
    told = [ask(admin, path).body.decode() for path in ("/metrics", "/status", "/readyz")]
    return said + "".join(told)


def _around(text: str) -> str:
    place = text.index(CANARY)
    return text[max(0, place - 300) : place + 50]


@pytest.fixture(scope="module")
def small() -> Iterator[Gateway]:
    """Run a gateway with a plugin whose exception holds what the client sent."""
    upstream = Upstream()
    text = REST.replace("UPSTREAM", str(upstream.port))
    with running(upstream), gateway(text, {"own.py": PLUGIN}) as started:
        yield started


def test_L2_refused_files(small: Gateway) -> None:
    """L2: why a gateway file with a secret is refused is told without the secret."""
    file = small.folder / "gateway.yaml"
    good = file.read_text()
    file.write_text(good.replace("admin: {", f"admin: {{token: {CANARY}, "))
    until(lambda: not r_ok(small), "it is refused")
    said = written_by(small.admin, small.said())
    file.write_text(good)
    until(lambda: r_ok(small), "it is good again")
    assert CANARY not in said, _around(said)


def failed(small: Gateway) -> tuple[Answer, dict[str, Any]]:
    """Let the plugin fail with a secret; return the answer and its record."""
    answer = exchange(small.port, request(f"/fails?q={SECOND}", bearer(SECOND)))
    assert (answer.status, answer.reason) == (500, "plugin_failed")
    records = small.folder / "records.jsonl"

    def found() -> dict[str, Any] | None:
        every = records_in(records)
        wanted = answer.header("x-request-id")
        return next((record for record in every if record["request_id"] == wanted), None)

    return answer, until(found, "the record")


def test_L2_an_exceptions_text_stays_inside(small: Gateway) -> None:
    """L2: neither the client nor the record nor the administration sees it."""
    answer, record = failed(small)
    assert SECOND not in json.dumps(record) + answer.body.decode() + written_by(small.admin, "")


def test_L2_an_exceptions_text_in_the_log(small: Gateway) -> None:
    """L2: what a client sent as its credential isn't in the log, though the exception has it."""
    failed(small)
    until(lambda: "plugin failed" in small.said(), "the log")
    assert SECOND not in small.said()
    assert '"where":"own.py:' in small.said()


def _without_id(answer: Answer) -> tuple[int, Any, str | None]:
    told = json.loads(answer.body)
    told.pop("instance")
    return answer.status, told, answer.header("www-authenticate")


def test_L3_every_refusal_reads_the_same(place: Place) -> None:
    """L3: unknown, wrong, expired: the client learns nothing; a denial shows no policy."""
    presented = [
        bearer(token(exp=1)),
        bearer(token(aud="other")),
        bearer(token(head={"kid": "nobody"})),
        bearer(token(head={"alg": "none"})),
        bearer(token(iss="http://nobody.test")),
        bearer(f"{token()[:-8]}AAAAAAAA"),
        bearer("x"),
    ]
    answers = {str(_without_id(place.get("/private/x", one).answer)) for one in presented}
    assert len(answers) == 1, answers
    keys = [
        api_keys.written("nobody", API_SECRET),
        api_keys.written("reader", "t" * 43),
        api_keys.written("late", API_SECRET),
        "no key",
    ]
    answers = {str(_without_id(place.get("/key/x", ("x-api-key", one)).answer)) for one in keys}
    assert len(answers) == 1, answers
    refused = place.get("/staff/x", bearer(token(email="me@corp.com")))
    assert refused.status == 403
    for secret in ("corp.com", "group", "mail", "principal", "alice", "rsa"):
        assert secret not in refused.answer.body.decode()


def test_L4_keys_are_hashes_and_all_refusals_one_path(place: Place) -> None:
    """L4: the file holds no key; expired ones are refused like others, each with its reason."""
    assert API_SECRET not in (place.gateway.folder / "keys.jsonl").read_text()
    for presented, reason in (
        (api_keys.written("nobody", API_SECRET), "key_unknown"),
        (api_keys.written("reader", "t" * 43), "key_wrong"),
        (api_keys.written("READER", API_SECRET), "key_unknown"),
        (api_keys.written("late", API_SECRET), "key_expired"),
        (api_keys.written("reader", API_SECRET)[3:], "malformed"),
        (api_keys.written("reader", f"{API_SECRET} "), "key_wrong"),
    ):
        seen = place.get("/key/x", ("x-api-key", presented))
        if presented.endswith(" "):
            assert seen.status == 200  # white space around a header's value is no part of it
            continue
        denied(place, seen, 401, reason)


def test_L5_a_query_is_no_place_for_credentials(place: Place) -> None:
    """L5: nothing there is read as one, and no record holds a query."""
    key = api_keys.written("reader", API_SECRET)
    for target in (f"/key/x?x-api-key={key}", f"/key/x?api_key={key}", f"/private/x?{token()}"):
        record = denied(place, place.get(target), 401, "unauthenticated")
        assert "?" not in record["path"]
        assert API_SECRET not in json.dumps(record)


def test_L7_administration_is_elsewhere(place: Place) -> None:
    """L7: the public port has none of it; there, writing needs a token and a secret is hidden."""
    for path in (
        "/metrics",
        "/status",
        "/decisions",
        "/console",
        "/config_dump",
        "/stats",
        "/reload",
    ):
        for host in ("shop.test", f"127.0.0.1:{place.gateway.admin}", "localhost"):
            seen = place.get(path, host=host)
            assert (seen.status, seen.received) == (404, ()), (path, seen)
    admin = place.gateway.admin
    for path in ("/reload", "/purge"):
        kind = {"content-type": "application/json"}
        assert ask(admin, path, method="POST", headers=kind, body=b"{}").status in {401, 403}
    for path in ("/config_dump", "/stats", "/quitquitquit", "/../config_dump"):
        assert ask(admin, path).status in {400, 404, 405}
    shown = json.dumps(place.gateway.status())
    assert not re.search(r"sha256:[0-9a-f]{16}|PRIVATE KEY", shown)


def test_L9_a_pattern_costs_linear_time(place: Place) -> None:
    """L9: conditions match in time linear in the text, so `(a+)+$` is no trap."""
    target = "/regex/" + "a" * 8000
    denied(place, place.get(f"{target}!"), 401, "no_rule_allows")
    assert place.get(target).status == 200
