"""Files of policy tests: what they may say, what fails, and what was never tested."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from extproc.offline.coverage import Coverage
from extproc.offline.junit import written as junit
from extproc.offline.running import FileResult, Result, run
from tests.offline.gateways import written

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
gateway: gateway.yaml
now: 2026-01-01T00:00:00Z
tokens:
  alice: {iss: "https://id.example", aud: shop, sub: alice, scope: "orders:read"}
"""


async def ran(folder: Path, text: str, coverage: Coverage | None = None) -> FileResult:
    """Run a file of tests beside the gateway file."""
    written(folder)
    (folder / "some_test.yaml").write_text(text)
    return await run(folder / "some_test.yaml", {}, coverage or Coverage())


async def one(folder: Path, text: str, head: str = HEAD) -> Result:
    """Run one test."""
    outcome = await ran(folder, f"{head}\ntests:\n  - {{name: t, {text}}}\n")
    assert not outcome.troubles, outcome.troubles
    (result,) = outcome.results
    return result


def raw(*lines: str) -> str:
    """Write a request as a YAML text."""
    joined = "\\r\\n".join([*lines, "", ""])
    return f'request: "{joined}"'


READ = raw("GET /orders/7 HTTP/1.1", "Host: shop", "Authorization: Bearer {alice}")
NOBODY = raw("GET /orders/7 HTTP/1.1", "Host: shop")


async def test_without_expectation_a_test_expects_denial(tmp_path: Path) -> None:
    """So a forgotten line can't pass for a permission."""
    assert (await one(tmp_path, NOBODY)).passed
    allowed = await one(tmp_path, READ)
    (difference,) = allowed.differences
    assert (difference.what, difference.expected, difference.got) == ("decision", "deny", "allow")


EXPECTATIONS = {
    "decision": "deny",
    "status": 403,
    "rule": "suspended",
    "reason": "suspended",
    "route": "day",
    "consumer": "mobile",
    "subject": "bob",
    "authenticator": "keys",
    "by": "authorize",
    "path": "/orders/8",
}


@pytest.mark.parametrize("name", EXPECTATIONS)
async def test_each_expectation_can_fail(tmp_path: Path, name: str) -> None:
    """And is told with what came in its place."""
    decision = "" if name == "decision" else "decision: allow, "
    result = await one(tmp_path, f"{READ}, expect: {{{decision}{name}: {EXPECTATIONS[name]}}}")
    assert [difference.what for difference in result.differences] == [name]


async def test_everything_that_can_be_expected(tmp_path: Path) -> None:
    """Of an allowed request, with what the upstream gets."""
    expect = (
        "decision: allow, status: 200, rule: reader, reason: '', route: order, consumer: '', "
        "subject: alice, authenticator: shop, by: '', path: /orders/7, "
        "upstream: {name: orders, target: /v2/orders/7, "
        "headers: {X-User: alice, authorization: null}}"
    )
    assert (await one(tmp_path, f"{READ}, expect: {{{expect}}}")).passed
    wrong = "decision: allow, upstream: {name: users, target: /, headers: {x-user: bob, x-no: a}}"
    result = await one(tmp_path, f"{READ}, expect: {{{wrong}}}")
    assert [d.what for d in result.differences] == [
        "upstream",
        "upstream target",
        "upstream header x-user",
        "upstream header x-no",
    ]
    none = await one(tmp_path, f"{NOBODY}, expect: {{upstream: {{headers: {{x-user: a}}}}}}")
    assert none.differences[0].got == "none was sent"


BAD = {
    "exp: -1m": "exp",
    "exp: null": "exp",
    "exp: soon": "exp",
    "nbf: +1h": "nbf",
    "iat: +1h": "iat",
    "aud: other": "aud",
    "iss: https://other.example": "iss",
    "$key: stranger": "signature",
    "$alg: none": "malformed",
    "$header: {kid: other}": "kid",
    "$header: {typ: logout+jwt}": "typ",
    "sub: 5": "sub",
}


@pytest.mark.parametrize("change", BAD)
async def test_tokens_that_are_no_good(tmp_path: Path, change: str) -> None:
    """Each is refused for its own reason."""
    usual = {"iss": "https://id.example", "aud": "shop", "sub": "alice"}
    usual.pop(change.partition(":")[0], None)
    claims = ", ".join([*(f"{name}: {value!r}" for name, value in usual.items()), change])
    head = f"gateway: gateway.yaml\ntokens: {{alice: {{{claims}}}}}"
    expect = f"expect: {{status: 401, reason: {BAD[change]}}}"
    assert (await one(tmp_path, f"{READ}, {expect}", head)).passed


async def test_only_declared_names_are_filled_in(tmp_path: Path) -> None:
    """Other braces are bytes of the request."""
    text = raw("GET /own/{alice}{bob}{ HTTP/1.1", "Host: shop", "Cookie: {bob}; c", "", "x: {bob}")
    head = "gateway: gateway.yaml\ntokens: {alice: {iss: x}}"
    result = await one(tmp_path, f"{text}, expect: {{decision: allow}}", head)
    assert result.judgement.verdict.path.endswith("%7Bbob%7D%7B")
    assert "alice" not in result.judgement.verdict.path


async def test_keys_made_for_the_tests(tmp_path: Path) -> None:
    """In place of those in the file, with consumer and scopes."""
    head = (
        "gateway: gateway.yaml\n"
        "keys: {p: {authenticator: keys, id: p1, consumer: partner, scopes: ['orders:read']}}"
    )
    request = raw("GET /orders/7 HTTP/1.1", "Host: shop", "X-Api-Key: {p}")
    expect = "decision: allow, subject: p1, consumer: partner, authenticator: keys"
    assert (await one(tmp_path, f"{request}, expect: {{{expect}}}", head)).passed
    wrong = raw("GET /orders/7 HTTP/1.1", "Host: shop", "X-Api-Key: {p}x")
    assert (await one(tmp_path, f"{wrong}, expect: {{reason: key_wrong}}", head)).passed


@pytest.mark.parametrize(
    ("accepts", "others"), [("", ""), ("ES256, RS256", "RS256"), ("ES256", "RS256")]
)
async def test_authenticators_of_one_issuer(tmp_path: Path, accepts: str, others: str) -> None:
    """Told apart by audience, they trust the same keys; where they can't, each has its own."""
    file = written(tmp_path)
    text = file.read_text().replace("discovery: true", f"discovery: true, algorithms: [{accepts}]")
    again = text.partition("  shop: ")[2].partition("\n")[0].replace("[shop]", "[staff]")
    again = again.replace(f"[{accepts}]", f"[{others}]")
    text = text.replace("  keys: {api_key", f"  staff: {again}\n  keys: {{api_key", 1)
    text += "  - {name: staff, match: {path: /staff}, upstream: orders, authentication: [staff]}\n"
    file.write_text(text)
    head = HEAD + '  bob: {iss: "https://id.example", aud: staff, sub: bob}\n'
    bob = raw("GET /staff HTTP/1.1", "Host: shop", "Authorization: Bearer {bob}")
    alice = bob.replace("{bob}", "{alice}")
    tests = f"{{name: a, {READ}, expect: {{decision: allow}}}}, {{name: c, {alice}}}"
    if accepts != "ES256":
        tests += f", {{name: b, {bob}, expect: {{decision: allow, subject: bob}}}}"
    (tmp_path / "some_test.yaml").write_text(f"{head}\ntests: [{tests}]\n")
    outcome = await run(tmp_path / "some_test.yaml", {}, Coverage())
    assert not outcome.troubles
    assert [result.differences for result in outcome.results] == [()] * len(outcome.results)


async def test_the_clock_is_frozen(tmp_path: Path) -> None:
    """A policy over time is tested at its edges."""
    request = raw("GET /day HTTP/1.1", "Host: shop", "Authorization: Bearer {alice}")
    early = await one(tmp_path, f"{request}, expect: {{decision: allow, rule: morning}}")
    assert early.passed
    late = HEAD.replace("2026-01-01", "2026-01-02")
    assert (await one(tmp_path, f"{request}, expect: {{status: 403}}", late)).passed


async def test_raw_bytes(tmp_path: Path) -> None:
    """A character up to 255 is a byte; a block's line feeds become line ends."""
    block = (
        f"{HEAD}\ntests:\n  - name: t\n    request: |\n      GET /orders/7 HTTP/1.1\n"
        "      Host: shop\n      Authorization: Bearer {alice}\n    expect: {decision: allow}\n"
    )
    outcome = await ran(tmp_path, block)
    assert [result.passed for result in outcome.results] == [True]
    high = raw("GET /products HTTP/1.1", "Host: shop", "X: \\xff")
    assert (await one(tmp_path, f"{high}, expect: {{decision: allow}}")).passed
    path = raw("GET /\\xff HTTP/1.1", "Host: shop")
    assert (await one(tmp_path, f"{path}, expect: {{status: 400, by: envoy}}")).passed


async def test_upgrades_that_no_route_takes(tmp_path: Path) -> None:
    """Envoy refuses those before it looks for a route."""
    for line in ("GET /nowhere HTTP/1.1", "DELETE /products HTTP/1.1"):
        asked = raw(line, "Host: shop", "Connection: upgrade", "Upgrade: websocket")
        assert (await one(tmp_path, f"{asked}, expect: {{status: 400, by: envoy}}")).passed


async def test_methods_that_no_route_names(tmp_path: Path) -> None:
    """Are none for Envoy's parser, unless it knows them."""
    for method, status in (("FOO", 400), ("get", 400), ("PROPFIND", 405)):
        asked = raw(f"{method} /products HTTP/1.1", "Host: shop")
        assert (await one(tmp_path, f"{asked}, expect: {{status: {status}, by: envoy}}")).passed


MISTAKES = {
    "gateway: gateway.yaml\ntests: []\n": "some_test.yaml:2:8: tests",
    "gateway: gateway.yaml\ntest: []\n": "some_test.yaml:2:1: test: unknown key, did you mean",
    f"{HEAD}tests: [{{name: a, request: x, expect: {{stauts: 4}}}}]": "did you mean status?",
    f"{HEAD}tests: [{{name: a, request: x}}, {{name: a, request: x}}]": (
        "some_test.yaml:6:39: tests[1].name: is 'a', as another test's, expected different names"
    ),
    f"{HEAD}tests: [{{name: a, request: 'a€'}}]": "expected bytes",
    "gateway: gateway.yaml\nnow: 2026-01-01\ntests: [{name: a, request: x}]": "without an offset",
    "gateway: gateway.yaml\nnow: x\ntests: [{name: a, request: x}]": "expected a moment",
    f"{HEAD}tests: [{{name: a, request: x, address: here}}]": "address: is 'here', expected an IP",
    (
        f"{HEAD}tests:\n  - name: a\n    request: |\n      GET / HTTP/1.1\n"
        "      Authorization: Bearer {alcie}\n"
    ): "has a header that is {alcie}, which isn't declared, did you mean alice?",
    (
        "gateway: gateway.yaml\ntests: [{name: a, request: 'GET / HTTP/1.1\n\nx-api-key: {p}\n\n'}]"
    ): "tests[0].request: has a header that is {p}, which isn't declared, expected it under tokens",
    "gateway: absent.yaml\ntests: [{name: a, request: x}]": "absent.yaml:1:1: can't be read",
    "gateway: own.py\ntests: [{name: a, request: x}]": "own.py:",
    (
        "gateway: gateway.yaml\ntokens: {a: {exp: +never}}\ntests: [{name: a, request: x}]"
    ): "some_test.yaml:2:19: tokens.a.exp: is '+never', expected a distance",
    (
        "gateway: gateway.yaml\ntokens: {a: {$kye: x}}\ntests: [{name: a, request: x}]"
    ): "tokens.a.$kye: unknown key",
    (
        "gateway: gateway.yaml\ntokens: {a: {$key: mine}}\ntests: [{name: a, request: x}]"
    ): "tokens.a.$key: is 'mine', expected stranger",
    (
        "gateway: gateway.yaml\nkeys: {a: {authenticator: shop, id: x}}\n"
        "tests: [{name: a, request: x}]"
    ): "keys.a.authenticator: names shop, expected an authenticator with `api_key`",
    (
        "gateway: gateway.yaml\ntokens: {a: {}}\nkeys: {a: {authenticator: keys, id: x}}\n"
        "tests: [{name: a, request: x}]"
    ): "expected different names",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: MISTAKES[text])
async def test_mistakes_have_a_place(tmp_path: Path, text: str) -> None:
    """In the file of tests and in its gateway file alike."""
    outcome = await ran(tmp_path, text)
    assert not outcome.results
    assert MISTAKES[text] in "\n".join(map(str, outcome.troubles))


async def test_rules_that_no_test_reaches(tmp_path: Path) -> None:
    """Those of enforced policies that were never true, in any file."""
    coverage = Coverage()
    await ran(tmp_path, f"{HEAD}\ntests:\n  - {{name: a, {READ}}}\n", coverage)
    assert {rule for _, _, rule in coverage.never} == {"suspended", "broken", "morning", "few"}
    assert coverage.rules == 5
    suspended = HEAD.replace("sub: alice", "sub: alice, suspended: true")
    await ran(tmp_path, f"{suspended}\ntests:\n  - {{name: a, {READ}}}\n", coverage)
    assert {rule for _, _, rule in coverage.never} == {"broken", "morning", "few"}


async def test_a_plugin_that_cannot_start(tmp_path: Path) -> None:
    """Is a trouble of the gateway file, not a traceback."""
    written(tmp_path)
    own = (tmp_path / "own.py").read_text().replace("self._call =", "raise RuntimeError(7)  #")
    (tmp_path / "own.py").write_text(own)
    (tmp_path / "some_test.yaml").write_text(f"{HEAD}\ntests:\n  - {{name: a, {READ}}}\n")
    outcome = await run(tmp_path / "some_test.yaml", {}, Coverage())
    (trouble,) = outcome.troubles
    assert "Own didn't start: RuntimeError: 7" in str(trouble)


async def test_junit(tmp_path: Path) -> None:
    """Suites, failures with what differs, files that can't be used; whatever the names hold."""
    failed = await ran(tmp_path, f'{HEAD}\ntests:\n  - {{name: "a<\\x01>", {READ}}}\n')
    broken = await ran(tmp_path, "gateway: absent.yaml\ntests: [{name: a, request: x}]")
    root = ET.fromstring(junit([failed, broken]))  # noqa: S314 - our own
    first, second = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("1", "1", "0")
    (case,) = first.findall("testcase")
    assert case.get("name") == "a<\\x01>"
    failure = case.find("failure")
    assert failure is not None
    assert failure.text == "decision: expected deny, got allow"
    assert second.get("errors") == "1"
