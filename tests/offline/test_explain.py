"""A request through every plugin offline: what is told, and what is hidden."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from extproc.authentication.signing import SigningKey
from extproc.config.build import assemble
from extproc.config.load import load
from extproc.core.values import Request
from extproc.offline.edge import Arrival
from extproc.offline.explain import explain
from tests.offline.gateways import NOW, gate, get, written

if TYPE_CHECKING:
    from pathlib import Path

KEY = SigningKey.made(frozenset({"ES256"}), "k")


def bearer(**claims: object) -> str:
    """Return an Authorization header with a token that somebody signed."""
    usual: dict[str, object] = {
        "iss": "https://id.example",
        "aud": "shop",
        "sub": "alice",
        "scope": "orders:read",
        "exp": NOW + 60,
    }
    return f"Authorization: Bearer {KEY.sign(usual | claims, {})}"


async def told(folder: Path, raw: bytes) -> dict[str, Any]:
    """Explain a request."""
    assembly = assemble(load(written(folder), {}))
    page: dict[str, Any] = json.loads(json.dumps(await explain(assembly, raw, "192.0.2.1", NOW)))
    return page


def step(told: dict[str, Any], plugin: str) -> dict[str, Any]:
    """Return a plugin's step."""
    found: dict[str, Any] = next(s for s in told["steps"] if s["plugin"] == plugin)
    return found


async def test_an_allowed_request(tmp_path: Path) -> None:
    """Each plugin in order, each rule with what it gave, what changes and what goes upstream."""
    raw = get("//orders/7", bearer(client_id="mobile-app", tier="silver"), "X-User: evil")
    page = await told(tmp_path, raw)
    assert page["request"]["path"] == "/orders/7"
    assert "path //orders/7 → /orders/7" in page["request"]["changes"]
    assert any("x-user was taken off" in change for change in page["request"]["changes"])
    assert page["route"]["name"] == "order"
    names = [s["plugin"] for s in page["steps"]]
    assert names == ["authenticate", "consumers", "authorize", "rewrite", "identity"]
    assert "principal: alice (jwt, by shop)" in step(page, "authenticate")["changes"]
    assert "consumer: mobile" in step(page, "consumers")["changes"]
    rules = {r["name"]: r for r in step(page, "authorize")["rules"]}
    assert {name: r["result"] for name, r in rules.items()} == {
        "reader": "true",
        "suspended": "false",
        "broken": "error",
        "gold": "false",
    }
    assert {name: r["problem"] for name, r in rules.items() if r["problem"]} == {
        "broken": '"nothing" isn\'t there',
    }
    assert [name for name, r in rules.items() if r["decided"]] == ["reader"]
    assert [name for name, r in rules.items() if r["candidate"]] == ["gold"]
    assert "the candidate would deny" in step(page, "authorize")["why"]
    verdict = page["verdict"]
    assert (verdict["decision"], verdict["rule"]) == ("allow", "reader")
    assert verdict["upstream"]["target"] == "/v2/orders/7"
    assert verdict["upstream"]["headers"]["x-user"] == "alice"
    assert "authorization" not in verdict["upstream"]["headers"]


async def test_keys_that_are_not_on_disk(tmp_path: Path) -> None:
    """The claims are judged, and it is said that the signature wasn't."""
    good = await told(tmp_path, get("/orders/7", bearer()))
    said = "signature not checked: the keys of https://id.example are not on disk"
    assert said in step(good, "authenticate")["why"]
    late = await told(tmp_path, get("/orders/7", bearer(exp=NOW - 60)))
    assert (late["verdict"]["status"], late["verdict"]["reason"]) == (401, "exp")
    assert said in step(late, "authenticate")["why"]


async def test_keys_that_are_on_disk_are_used(tmp_path: Path) -> None:
    """A token of somebody else is refused."""
    file = written(tmp_path)
    other = SigningKey.made(frozenset({"ES256"}), "k")
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [other.public()]}))
    file.write_text(file.read_text().replace("discovery: true", "jwks: jwks.json"))
    page = await explain(assemble(load(file, {})), get("/orders/7", bearer()), "192.0.2.1", NOW)
    assert page["verdict"]["reason"] == "signature"  # type: ignore[index]


@pytest.mark.parametrize(
    "raw",
    [
        get("/orders/7", bearer(), "Cookie: session=canary-1234567"),
        get("/orders/7", "Authorization: Basic canary-1234567"),
        get("/orders/7", "X-Api-Key: ek_id.canary-1234567"),
        get("/products?access_token=canary-1234567", "Cookie: a=canary-1234567"),
        get("/own/x", "Cookie: a=b; c=canary-1234567"),
        get("/own/raises", "Cookie: c=canary-1234567"),
        get("/nowhere?access_token=canary-1234567", "X-Api-Key: canary-1234567"),
        get("/a%2fb", "Authorization: canary-1234567"),
    ],
)
async def test_credentials_are_hidden(tmp_path: Path, raw: bytes) -> None:
    """L2: wherever an authenticator looks, and wherever a plugin copies it to."""
    text = json.dumps(await told(tmp_path, raw))
    assert "canary" not in text
    for part in raw.decode().split("Bearer ")[1:]:
        assert not any(piece in text for piece in part.split("\r\n")[0].split("."))


async def test_nothing_is_called(tmp_path: Path) -> None:
    """An aggregate's calls and a plugin's are told in place of being made."""
    home = step(await told(tmp_path, get("/home", bearer())), "aggregate")
    assert home["why"] == [
        "profile: GET users /users/alice",
        "orders: GET orders /orders?user={profile.id}, after profile",
        "not made, as nothing reads them: ads",
    ]
    pruned = step(await told(tmp_path, get("/page?q=a%20b&f=found", bearer())), "aggregate")
    assert pruned["why"] == [
        "found: GET users /found?q=a%20b",
        "not made, as nothing reads them: ads",
    ]
    for query in ("q=%FF", "q=a&f=a[0]"):
        page = await told(tmp_path, get(f"/page?{query}", bearer()))
        assert (page["verdict"]["status"], page["verdict"]["reason"]) == (400, "malformed")
    some = step(await told(tmp_path, get("/some/1")), "aggregate")
    assert some["why"] == [
        "one: GET users /one",
        "two: GET users /two, after one, when 'full' in request.query && one.x > 1",
        "three: GET users /3, else GET orders /4/{request.params.id}",
    ]
    some = step(await told(tmp_path, get("/some/2")), "aggregate")
    assert some["why"][0] == ("one: not made, as its `when` isn't true: request.params.id == '1'")
    own = await told(tmp_path, get("/own/calls"))
    assert step(own, "Own")["why"] == ["would call GET users /users/7"]
    assert own["verdict"]["reason"] == "no_users"
    cached = await told(tmp_path, get("/products"))
    assert "uri-miss" in step(cached, "cache")["why"][0]
    assert cached["on_the_response"] == ["cache"]


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [
        ("/named/split?ids=1,2", 200, "one: GET users /one/{key}, for each of split(%s) (2 calls)"),
        (
            "/named/split",
            400,
            "one: GET users /one/{key}, for each of split(%s) (that can't be: shape)",
        ),
        ("/named/split?ids=1,2,3,4", 400, "split(%s) (that can't be: too_many_calls)"),
        ("/named/split?ids=..", 200, "split(%s) (1 call)"),  # of that there is nothing
        (
            "/named/any?id=1",
            200,
            "two: GET users /two/{key}, for each of request.queries.id (1 call)",
        ),
        ("/named/any?id=1&id=2&id=3&id=4", 200, "(4 calls), not required"),
        ("/named/any?id=%FF", 400, ""),
        ("/named/needs?needed=1", 200, "three: GET users /three/1"),
        ("/named/needs", 400, "(a part of it has no value, so the call fails)"),
        ("/named/else?or=1", 200, "else GET users /4/{request.query.or}"),
        ("/named/else", 400, "else GET users /4/{request.query.or}"),
    ],
)
async def test_what_the_request_alone_decides(
    tmp_path: Path, path: str, status: int, line: str
) -> None:
    """Where no call can be made for what it holds, that is the verdict, as through the gateway."""
    page = await told(tmp_path, get(path))
    assert page["verdict"]["status"] == status
    why = "\n".join(step(page, "aggregate")["why"])
    assert line.replace("%s", "request.queries.ids[0], ','") in why
    if status != 200:
        assert page["verdict"]["reason"] == "malformed"
        assert step(page, "aggregate")["outcome"] == "answered 400 (malformed)"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"ids": [1, 2]}', 200),
        (b"{}", 200),
        (b'{"ids": [1, null]}', 400),
        (b'{"ids": [1, ".."]}', 400),
        (b'{"ids": [1, 2, 3, 4]}', 400),
    ],
)
async def test_what_the_body_alone_decides(tmp_path: Path, body: bytes, status: int) -> None:
    """The same, of calls that change something."""
    head = b"POST /changed HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % len(body)
    page = await told(tmp_path, head + body)
    assert page["verdict"]["status"] == status


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", '{"n": 1}', 200, None),
        ("application/json", '{"n": 9}', 401, "no_rule_allows"),
        ("text/plain", '{"n": 1}', 415, "body_type"),
        ("application/json", '{"n": 1, "n": 1}', 400, "malformed_body"),
    ],
)
async def test_a_body_is_judged_before_calls(
    tmp_path: Path, kind: str, body: str, status: int, reason: str | None
) -> None:
    """As the gateway does: calls of such a route wait for the body."""
    head = f"POST /judged HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
    raw = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    verdict = (await told(tmp_path, raw))["verdict"]
    assert (verdict["status"], verdict["reason"]) == (status, reason)


@pytest.mark.parametrize(
    ("body", "one", "two"),
    [
        ('{"id": 7, "full": true}', "GET users /one/7", "GET users /two"),
        (
            '{"full": false}',
            "GET users /one/{request.body.id} (a part of it has no value, so the call fails)",
            "not made, as its `when` isn't true: request.body.full",
        ),
    ],
)
async def test_calls_that_read_the_body(tmp_path: Path, body: str, one: str, two: str) -> None:
    """They are told with what is in it."""
    raw = f"POST /sent HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    steps = (await told(tmp_path, raw.encode()))["steps"]
    (calls,) = [s["why"] for s in steps if s["phase"] == "request_body"]
    assert calls == [f"one: {one}", f"two: {two}"]


async def test_what_no_route_takes(tmp_path: Path) -> None:
    """404 and 405 with the reason, and every route that was passed over."""
    absent = await told(tmp_path, get("/nowhere"))
    assert (absent["verdict"]["status"], absent["verdict"]["by"]) == (404, "envoy")
    assert "day: the path isn't /day" in absent["route"]["passed_over"]
    other = await told(tmp_path, get("/orders/7", method="DELETE"))
    assert other["verdict"]["status"] == 405
    assert other["route"]["allow"] == ["GET", "HEAD"]
    refused = await told(tmp_path, get("/a%2fb"))
    assert refused["request"]["rejected"]["why"] == "the path has an escaped slash (%2f or %5c)"


async def test_bodies(tmp_path: Path) -> None:
    """Whole-body plugins see it; one that is too large is refused by Envoy."""
    async with gate(tmp_path) as judges:
        good = await judges.judge(get("/orders", method="POST", body='{"basket": []}'))
        assert good.verdict.decision == "allow"
        assert good.steps[-1].outcome == "replaced the body (12 bytes)"
        bad = await judges.judge(get("/orders", method="POST", body="{"))
        assert (bad.verdict.status, bad.verdict.reason) == (400, "malformed_body")
        lost = await judges.judge(get("/products", method="POST") + b"{}")
        assert isinstance(lost.arrival, Arrival)
        assert "2 bytes behind the request are no part of it" in lost.arrival.changes
        large = await judges.judge(get("/orders", method="POST", body="x" * 1025))
        assert (large.verdict.status, large.verdict.reason) == (413, "request_too_large")


async def test_the_clock_stands(tmp_path: Path) -> None:
    """Conditions over time see the moment they are given."""
    async with gate(tmp_path) as judges:
        judgement = await judges.judge(get("/day"))
        assert judgement.verdict.status == 401
    page = await told(tmp_path, get("/day", bearer()))
    assert page["verdict"]["rule"] == "morning"
    assert page["verdict"]["upstream"]["headers"]["authorization"] == "Bearer ***"


@pytest.mark.parametrize("target", ["/orders/7", "/composed"])
async def test_no_backend_takes_an_assertion_that_was_shown(tmp_path: Path, target: str) -> None:
    """It is signed with another key than those that are published, in calls of an aggregate too."""
    pem = ed25519.Ed25519PrivateKey.generate()
    path = written(tmp_path)
    (tmp_path / "assertion.pem").write_bytes(
        pem.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    text = path.read_text().replace("identity:\n", "identity:\n  assertion: {key: assertion.pem}\n")
    composed = "  - name: composed\n    match: {path: /composed}\n"
    composed += "    aggregate: {calls: {one: {upstream: orders, path: /one}}, response: one}\n"
    path.write_text(text + composed)
    assembly = assemble(load(path, {}))
    page = json.dumps(await explain(assembly, get(target, bearer()), "192.0.2.1", NOW))
    shown = set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", page))
    assert assembly.signer is not None
    shown.add(assembly.signer.sign(Request(), "orders", NOW))
    assert target == "/composed" or len(shown) > 1
    published = json.loads(assembly.published)["keys"]
    for assertion in shown:
        assert jwt.get_unverified_header(assertion)["kid"] not in {key["kid"] for key in published}
        for key in published:
            with pytest.raises(jwt.InvalidSignatureError):
                jwt.decode(assertion, jwt.PyJWK(key), ["EdDSA"], options={"verify_aud": False})


@pytest.mark.parametrize("query", ["x=%ff", "access_token=%ff", "access_token=a&access_token=b"])
async def test_a_query_that_cannot_be_decoded(tmp_path: Path, query: str) -> None:
    """It is told as it is answered, also where an authenticator looks in the query."""
    path = written(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("discovery: true", "discovery: true, query: access_token"))
    page = await explain(assemble(load(path, {})), get(f"/orders/7?{query}"), "192.0.2.1", NOW)
    plain: dict[str, Any] = json.loads(json.dumps(page))
    refused = 400 if "=%ff" in query else 401
    assert plain["verdict"]["status"] == refused
    assert step(plain, "authenticate")["why"][0].startswith("credential: ")
