"""`extproc explain`, `test` and `token`, as people and build servers use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.offline.gateways import written
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHOP = str(ROOT / "examples" / "shop" / "gateway.yaml")


def extproc(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command, with this at its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "extproc", *arguments],
        input=said,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120"},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", SHOP],
        ["explain", SHOP, "GET"],
        ["explain", SHOP, "GET", "orders"],
        ["explain", SHOP, "GET", "/", "-H", "nothing"],
        ["explain", SHOP, "GET", "/", "--request", "pyproject.toml"],
        ["explain", SHOP, "--request", "/no/such/file"],
        ["explain", SHOP, "GET", "/", "--body", "/no/such/file"],
        ["explain", SHOP, "--id", "x"],
        ["explain", SHOP, "--id", "x", "--decisions", "/no/such/file"],
        ["test"],
        ["test", "/no/such/folder"],
        ["test", "docs"],
        ["token"],
        ["token", "--issuer-key", "/no/such/file"],
        ["token", "--issuer-key", "pyproject.toml"],
        ["token", "--issuer-key", "pyproject.toml", "--ttl", "soon"],
        ["token", "--issuer-key", "pyproject.toml", "--kid", "\udcff"],
        ["token", "--issuer-key", "pyproject.toml", "--claim", "sub"],
        ["purge", "--all", "--token", "\udcff"],
        ["purge", "--all", "--token", "a\nb"],
        ["token", "--issuer-key", "pyproject.toml", "--claim", "a=\udcff"],
        ["token", "--issuer-key", "pyproject.toml", "--claim", 'a=["\\ud800"]'],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    """Exit 2 and a message, never a traceback."""
    done = extproc(*arguments)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize("command", ["explain", "test", "token"])
def test_help(command: str) -> None:
    """Each command says what it does and takes."""
    done = extproc(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_explain(tmp_path: Path) -> None:
    """A person reads who decided; a machine gets the same; a denial is no failure."""
    text = extproc("explain", SHOP, "GET", "http://shop//orders/7", "-H", "X-User: evil")
    assert text.returncode == 0
    for line in ("path //orders/7 → /orders/7", "route order", "verdict: deny 401"):
        assert line in text.stdout
    request = tmp_path / "request"
    request.write_text("POST /orders HTTP/1.1\nHost: shop\nContent-Length: 2\n\n")
    body = tmp_path / "body"
    body.write_text("{}")
    done = extproc("explain", SHOP, "--request", str(request), "--body", str(body), "--json")
    told = json.loads(done.stdout)
    assert (told["request"]["body_bytes"], told["verdict"]["status"]) == (2, 401)
    said = "GET /orders/7 HTTP/1.1\nHost: shop\n\n"
    piped = extproc("explain", SHOP, "--request", "-", "--json", said=said)
    assert json.loads(piped.stdout)["route"]["name"] == "order"
    raw = json.loads(extproc("explain", SHOP, "GET", "/a%2fb", "--json").stdout)
    assert raw["request"]["rejected"]["status"] == 400


def test_explain_a_broken_gateway_file(tmp_path: Path) -> None:
    """Exit 1 with its troubles."""
    file = tmp_path / "gateway.yaml"
    file.write_text("version: 1\nlistner: {}\n")
    done = extproc("explain", str(file), "GET", "/")
    assert done.returncode == 1
    assert "gateway.yaml:2:1: listner" in done.stderr


def test_explain_a_recorded_request(tmp_path: Path) -> None:
    """By its id, rule by rule; an id that isn't there is told."""
    gateway = str(written(tmp_path))
    log = tmp_path / "decisions.jsonl"
    inputs = {
        "principal.scopes": ["orders:read"],
        "principal.kind": "jwt",
        "absent": [f"principal.claims.{n}" for n in ("suspended", "nothing", "tier", "client_id")],
    }
    record = {"request_id": "r-1", "time": "now", "route": "order", "decision": "deny"}
    log.write_text(json.dumps(record | {"reason": "no_rule_allows", "inputs": inputs}) + "\n")
    done = extproc("explain", gateway, "--id", "r-1", "--decisions", str(log))
    assert done.returncode == 0, done
    assert "→ allow true    orders-read/reader" in done.stdout
    assert "verdict: allow reader" in done.stdout
    machine = extproc("explain", gateway, "--id", "r-1", "--decisions", str(log), "--json")
    assert json.loads(machine.stdout)["would"] == {"decision": "allow", "rule": "reader"}
    assert extproc("explain", gateway, "--id", "r-2", "--decisions", str(log)).returncode == 1


@pytest.mark.parametrize("live", [False, True])
def test_the_examples_tests_pass(tmp_path: Path, *, live: bool) -> None:
    """Offline and through a real Envoy, and every rule is true in some test."""
    report = tmp_path / "junit.xml"
    options = ["--require-coverage", "--junit", str(report), *(["--live"] if live else [])]
    done = extproc("test", "examples", *options)
    assert done.returncode == 0, done
    assert ", 0 failed; " in done.stdout
    assert done.stdout.count("  ok  ") == report.read_text().count("<testcase ") > 20
    assert not done.stderr


def test_a_test_that_fails(tmp_path: Path) -> None:
    """Exit 1, what was expected and what came, and why."""
    written(tmp_path)
    file = tmp_path / "some_test.yaml"
    file.write_text(
        "gateway: gateway.yaml\ntests:\n"
        '  - {name: hopeful, request: "GET /day HTTP/1.1\\nHost: a", expect: {decision: allow}}\n'
    )
    done = extproc("test", str(tmp_path))
    assert done.returncode == 1
    assert "FAIL  hopeful" in done.stdout
    assert "decision  expected allow" in done.stdout
    assert "because authenticate answered 401 (unauthenticated)" in done.stdout
    told = json.loads(extproc("test", str(file), "--json").stdout)
    assert not told["ok"]
    assert told["files"][0]["tests"][0]["differences"] == [
        {"what": "decision", "expected": "allow", "got": "deny"}
    ]
    file.write_text(file.read_text().replace("allow", "deny"))
    assert extproc("test", str(file)).returncode == 0
    uncovered = extproc("test", str(file), "--require-coverage")
    assert uncovered.returncode == 1
    assert "true in no test: by-day/morning" in uncovered.stdout
    told = json.loads(extproc("test", str(file), "--require-coverage", "--json").stdout)
    assert told["ok"] is False
    file.write_text(file.read_text().replace("/day", "/night").replace("deny", "allow"))
    assert "because no route takes it" in extproc("test", str(file)).stdout
    file.write_text("gateway: gateway.yaml\ntets: []\n")
    broken = extproc("test", str(file))
    assert broken.returncode == 1
    assert "some_test.yaml:2:1: tets: unknown key, did you mean tests?" in broken.stdout


def test_a_body_that_envoy_would_wait_for_is_not_sent(tmp_path: Path) -> None:
    """Where policies judge bodies: 408, as at the end of its patience; else headers decide."""
    (tmp_path / "gateway.yaml").write_text(
        """
version: 1
listener: {address: "127.0.0.1:8080"}
upstreams: {a: {endpoints: ["http://127.0.0.1:1"]}}
authentication: {b: {basic: {file: users}}}
policies: {small: {rules: [{name: small, allow: "request.body.n < 5"}]}}
routes:
  - name: a
    match: {path: /a}
    upstream: a
    authentication: [anonymous, b]
    body: json
    authorization: small
"""
    )
    (tmp_path / "users").write_text("")
    head = "POST /a HTTP/1.1\nHost: a\nContent-Type: application/json\nContent-Length: 90\n"
    (tmp_path / "some_test.yaml").write_text(
        json.dumps(
            {
                "gateway": "gateway.yaml",
                "tests": [
                    {
                        "name": "short",
                        "request": head + '\n{"n": 1}',
                        "expect": {"decision": "deny", "status": 408},
                    },
                    {
                        "name": "denied",
                        "request": head + 'Authorization: Basic YTpi\n\n{"n": 1}',
                        "expect": {"decision": "deny", "status": 401},
                    },
                ],
            }
        )
    )
    done = extproc("test", str(tmp_path), "--live", "--json")
    assert done.returncode == 0, done
    short, denied = json.loads(done.stdout)["files"][0]["tests"]
    assert "shorter than was announced" in short["not_sent_live"]
    assert denied["not_sent_live"] is None


def test_live_needs_an_envoy() -> None:
    """A message says what to do."""
    done = extproc("test", "examples", "--live", "--envoy", "/no/such/envoy")
    assert done.returncode == 1
    assert "is no program" in done.stderr


PRIVATE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_token(tmp_path: Path, algorithm: str) -> None:
    """Signed with the key, PEM or JWK; values are JSON where they can be read as such."""
    private = PRIVATE[algorithm]()
    pem = tmp_path / "issuer.pem"
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    claims = ["sub=alice", "level=5", 'groups=["a"]', "aud=shop", "odd=NaN"]
    options = [word for claim in claims for word in ("--claim", claim)]
    done = extproc("token", "--issuer-key", str(pem), *options, "--kid", "k1", "--ttl", "5m")
    text = done.stdout.strip()
    assert jwt.get_unverified_header(text) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    read = jwt.decode(text, private.public_key(), [algorithm], audience="shop")
    assert read["exp"] - read["iat"] == 300
    told = {name: read[name] for name in ("sub", "level", "groups", "odd")}
    assert told == {"sub": "alice", "level": 5, "groups": ["a"], "odd": "NaN"}
    jwk = tmp_path / "issuer.jwk"
    named = jwt.get_algorithm_by_name(algorithm).to_jwk(private, as_dict=True)
    jwk.write_text(json.dumps(named | {"kid": "k2"}))
    again = json.loads(extproc("token", "--issuer-key", str(jwk), "--json").stdout)
    assert again["header"] == {"alg": algorithm, "kid": "k2", "typ": "JWT"}
    assert again["header"] == jwt.get_unverified_header(again["token"])
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "it is encrypted" in extproc("token", "--issuer-key", str(pem)).stderr
    pem.write_bytes(jwk.read_bytes())
    wrong = extproc("token", "--issuer-key", str(pem), "--alg", "HS256")
    assert wrong.returncode == 2
    assert "doesn't sign HS256" in wrong.stderr


def test_a_failed_test_tells_what_decided(tmp_path: Path) -> None:
    """Plugins behind it went on, which says nothing."""
    written(tmp_path)
    (tmp_path / "some_test.yaml").write_text(
        """
gateway: gateway.yaml
tokens: {alice: {iss: "https://id.example", aud: shop, sub: alice, scope: "orders:read"}}
tests:
  - name: read
    request: "GET /orders/7 HTTP/1.1\\r\\nHost: shop\\r\\nAuthorization: Bearer {alice}\\r\\n\\r\\n"
    expect: {decision: allow, rule: other}
  - name: named
    request: "GET /named/needs HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n"
    expect: {decision: allow}
"""
    )
    done = extproc("test", str(tmp_path))
    assert done.returncode == 1, done.stdout
    told = [line.strip() for line in done.stdout.splitlines() if "because" in line]
    assert [line.partition(";")[0] for line in told] == [
        "because authorize went on",
        "because aggregate answered 400 (malformed)",
    ]
    assert "; decided by reader" in told[0]
