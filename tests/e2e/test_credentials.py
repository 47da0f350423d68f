"""Every kind of credential through a real Envoy: who is named, and what the upstream sees."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import argon2
import bcrypt
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import Made, made
from tests.support.client import Reply
from tests.support.introspection import IntrospectionServer
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.shop.processes import Shop

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
ISSUER = "https://id.example"
BEARER = 'Bearer realm="gateway"'
BASIC = 'Basic realm="gateway", charset="UTF-8"'
CERTIFICATE = 'ClientCertificate realm="gateway"'
CLIENT_SECRET = "canary/secret:1"
REST = """
version: 1
listener:
  address: 127.0.0.1:PORT
  tls: {{certificate: server.crt, private_key: server.key, client_ca: ca.crt}}
admin: {{address: "127.0.0.1:ADMIN"}}
decisions: {{file: records.jsonl}}
upstreams:
  echo: {{endpoints: ['http://127.0.0.1:{echo}']}}
authentication:
  ops: {{basic: {{file: users.htpasswd}}}}
  mesh: {{mtls: {{}}}}
  spiffe: {{mtls: {{trust_domains: [corp.example]}}}}
  opaque: {{introspection: {{url: "http://127.0.0.1:{introspection}/introspect", client_id: gw, client_secret: "{client_secret}", audiences: [shop]}}}}
  shop: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}"}}}}
  web: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}", cookie: session}}}}
  link: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}", query: token}}}}
  bound: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}", proof: certificate}}}}
  proven: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}", proof: dpop}}}}
  access: {{jwt: {{issuer: "{issuer}", audiences: [shop], secret: "{secret}", profile: rfc9068}}}}
identity: {{headers: {{x-user: "{{principal.subject}}", x-kind: "{{principal.kind}}"}}}}
policies: {{known: {{rules: [{{name: known, allow: 'principal.kind != "anonymous"'}}]}}}}
routes:
  - {{name: judged, match: {{path: /judged}}, upstream: echo, authentication: [ops, anonymous], authorization: known}}
  - {{name: closed, match: {{path: /closed}}, upstream: echo, authentication: none, authorization: known}}
  - {{name: basic, match: {{path: /basic}}, upstream: echo, authentication: [ops]}}
  - {{name: mesh, match: {{path: /mesh}}, upstream: echo, authentication: [mesh]}}
  - {{name: spiffe, match: {{path: /spiffe}}, upstream: echo, authentication: [spiffe]}}
  - {{name: opaque, match: {{path: /opaque}}, upstream: echo, authentication: [opaque]}}
  - {{name: several, match: {{path: /several}}, upstream: echo, authentication: [shop, opaque, ops, mesh]}}
  - {{name: both, match: {{path: /both}}, upstream: echo, authentication: {{all: [mesh, shop]}}}}
  - {{name: both-asked, match: {{path: /both-asked}}, upstream: echo, authentication: {{all: [mesh, opaque]}}}}
  - {{name: web, match: {{path: /web}}, upstream: echo, authentication: [web, shop]}}
  - {{name: link, match: {{path: /link}}, upstream: echo, authentication: [link]}}
  - {{name: open, match: {{path: /open}}, upstream: echo, authentication: none}}
  - {{name: optional, match: {{path: /optional}}, upstream: echo, authentication: [ops, anonymous]}}
  - {{name: bound, match: {{path: /bound}}, upstream: echo, authentication: [bound]}}
  - {{name: proven, match: {{path: /proven}}, upstream: echo, authentication: [proven]}}
  - {{name: access, match: {{path: /access}}, upstream: echo, authentication: [access]}}
"""


class Place:
    """A gateway with TLS, and certificates for clients."""

    def __init__(self, running: Gateway, ca: Made, asked: IntrospectionServer) -> None:
        self.running = running
        self.asked = asked
        self.clients = {
            "plain": made("plain-client", ca),
            "cart": made("cart", ca, uri="spiffe://corp.example/cart"),
            "foreign": made("other", ca, uri="spiffe://corp.example.evil/cart"),
        }
        for name, client in self.clients.items():
            (running.folder / f"{name}.pem").write_text(client.pem + client.key_pem)

    def ask(
        self,
        target: str,
        headers: dict[str, str] | None = None,
        client: str | None = None,
        method: str = "GET",
    ) -> Reply:
        """Make one request, with a client's certificate or without."""
        context = ssl.create_default_context(cafile=str(self.running.folder / "ca.crt"))
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(self.running.folder / f"{client}.pem")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.running.port, timeout=15, context=context
        )
        try:
            connection.request(method, target, headers=headers or {})
            response = connection.getresponse()
            data = response.read()
            found: dict[str, str] = {}
            for name, value in response.getheaders():
                lower = name.lower()
                found[lower] = f"{found[lower]}\n{value}" if lower in found else value
            return Reply(response.status, found, data)
        finally:
            connection.close()

    def reason(self, answer: Reply) -> str:
        """Return what the decision record says of a refusal."""
        identifier = answer.headers["x-request-id"]

        def found() -> Any:
            every = records_in(self.running.folder / "records.jsonl")
            return [record for record in every if record["request_id"] == identifier]

        deadline = time.monotonic() + 10
        while not found():
            assert time.monotonic() < deadline, "no record"
            time.sleep(0.02)
        (record,) = found()
        assert record["decision"] == "deny"
        return str(record["reason"])


@pytest.fixture(scope="module")
def place(shop: Shop) -> Iterator[Place]:
    """Run a gateway."""
    ca = made("test authority")
    server = made("127.0.0.1", ca)
    users = {
        "bea": bcrypt.hashpw(b"bees & honey", bcrypt.gensalt(4)).decode(),
        "ada": argon2.PasswordHasher(1, 8, 1).hash("pässword:with colon"),
    }
    files = {
        "ca.crt": ca.pem,
        "server.crt": server.pem,
        "server.key": server.key_pem,
        "users.htpasswd": "# users\n" + "".join(f"{u}:{h}\n" for u, h in users.items()),
    }
    with IntrospectionServer("gw", CLIENT_SECRET) as asked:
        text = REST.format(
            echo=shop.ports["echo"],
            introspection=asked.port,
            client_secret=CLIENT_SECRET,
            issuer=ISSUER,
            secret=SECRET,
        )
        with gateway(text, files, whole=True) as running:
            yield Place(running, ca, asked)


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of a user."""
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def token(header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": "shop", "sub": "alice", "iat": now, "exp": now + 300}
    return pyjwt.encode(usual | claims, SECRET, "HS256", header)


def bearer(text: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    ("user", "password"), [("bea", "bees & honey"), ("ada", "pässword:with colon")]
)
def test_a_user_is_known(place: Place, user: str, password: str) -> None:
    """By bcrypt and argon2, twice: computed, then remembered; the upstream sees no password."""
    for _ in range(2):
        sent = place.ask("/basic", basic(user, password)).sent
        assert (sent["x-user"], sent["x-kind"]) == (user, "basic")
        assert "authorization" not in sent


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (basic("bea", "bees"), "password_wrong"),
        (basic("bea", ""), "password_wrong"),
        (basic("nobody", "bees & honey"), "user_unknown"),
        (basic("", "x"), "malformed"),
        ({"authorization": "Basic bm9jb2xvbg=="}, "malformed"),
        ({"authorization": "Basic !!!!"}, "malformed"),
        ({"authorization": "Basic /zo="}, "malformed"),
        ({"authorization": "Basic"}, "malformed"),
        ({"authorization": "Bearer abc"}, "malformed"),
        ({"authorization": "Basic " + "YTph" * 1000}, "too_large"),
    ],
)
def test_a_password_is_refused(place: Place, headers: dict[str, str], reason: str) -> None:
    """L3: the same answer whatever was wrong, also where authentication is optional."""
    answer = place.ask("/basic", headers)
    unknown = place.ask("/basic", basic("nobody", "x"))
    assert (answer.status, answer.json["detail"]) == (401, unknown.json["detail"])
    assert answer.headers["www-authenticate"] == 'Basic realm="gateway", charset="UTF-8"'
    assert place.reason(answer) == reason
    assert place.ask("/optional", headers).status == 401
    assert place.ask("/optional").status == 200


def test_a_certificate_is_known(place: Place) -> None:
    """By its URI, else its subject; without one: 401."""
    assert place.ask("/mesh", client="cart").sent["x-user"] == "spiffe://corp.example/cart"
    sent = place.ask("/mesh", client="plain").sent
    assert (sent["x-user"], sent["x-kind"]) == ("CN%3Dplain-client", "mtls") or (
        sent["x-user"] == "CN=plain-client"
    )
    nobody = place.ask("/mesh", {"x-forwarded-client-cert": "URI=spiffe://corp.example/cart"})
    assert nobody.status == 401
    assert nobody.headers["www-authenticate"] == CERTIFICATE


def test_a_certificate_of_another_domain(place: Place) -> None:
    """A trust domain ends at its slash."""
    assert place.ask("/spiffe", client="cart").status == 200
    foreign = place.ask("/spiffe", client="foreign")
    assert foreign.status == 401
    assert place.reason(foreign) == "certificate_foreign"
    assert place.reason(place.ask("/spiffe", client="plain")) == "certificate_foreign"


def test_an_opaque_token_is_asked_about(place: Place) -> None:
    """Once for many requests; the gateway names itself, form-encoded before base64."""
    place.asked.answers["t-1"] = {"active": True, "sub": "olga", "aud": "shop", "scope": "a b"}
    for _ in range(3):
        sent = place.ask("/opaque", bearer("t-1")).sent
        assert (sent["x-user"], sent["x-kind"]) == ("olga", "introspection")
    assert place.asked.questions.count("t-1") == 1
    assert place.asked.refused == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False}, "inactive"),
        ({"active": "true", "sub": "x", "aud": "shop"}, "introspection"),
        ({"active": 1, "sub": "x", "aud": "shop"}, "introspection"),
        ({"sub": "x", "aud": "shop"}, "introspection"),
        ([], "introspection"),
        (b'{"active":false,"active":true,"aud":"shop"}', "introspection"),
        (b"<html>", "introspection"),
        (b"", "introspection"),
        ({"active": True, "aud": "other"}, "aud"),
        ({"active": True}, "aud"),
        ({"active": True, "aud": "shop", "exp": 1}, "exp"),
        ({"active": True, "aud": "shop", "exp": "9e9"}, "exp"),
        ({"active": True, "aud": "shop", "nbf": 9e9}, "nbf"),
        ({"active": True, "aud": "shop", "sub": ["x"]}, "sub"),
        ({"active": True, "aud": "shop", "iss": 1}, "iss"),
    ],
)
def test_J35_an_answer_that_does_not_say_active(place: Place, answer: Any, reason: str) -> None:
    """Only the literal `true` of a JSON object, said for this audience."""
    name = "j35-" + hashlib.sha256(repr(answer).encode()).hexdigest()[:12]
    place.asked.answers[name] = answer
    refused = place.ask("/opaque", bearer(name))
    assert refused.status == 401
    assert place.reason(refused) == reason


def test_J35_an_issuer_that_fails(place: Place) -> None:
    """503 with Retry-After: the token may be good; nothing is remembered of the failure."""
    for status in (500, 401, 302):
        place.asked.answers["j35-later"] = status
        answer = place.ask("/opaque", bearer("j35-later"))
        assert (answer.status, answer.reason) == (503, "introspection_failed")
        assert answer.headers["retry-after"] == "5"
    place.asked.answers["j35-later"] = {"active": True, "aud": "shop"}
    assert place.ask("/opaque", bearer("j35-later")).status == 200


def test_each_credential_goes_to_one_authenticator(place: Place) -> None:
    """A JWT by its issuer, another token to introspection, a password to users; no second try."""
    place.asked.answers["several-1"] = {"active": True, "sub": "olga", "aud": "shop"}
    assert place.ask("/several", bearer("several-1")).sent["x-kind"] == "introspection"
    assert place.ask("/several", bearer(token())).sent["x-kind"] == "jwt"
    assert place.ask("/several", basic("bea", "bees & honey")).sent["x-kind"] == "basic"
    broken = token()[:-2] + "xx"
    assert place.ask("/several", bearer(broken)).status == 401
    assert broken not in place.asked.questions
    challenges = place.ask("/several").headers["www-authenticate"].split("\n")
    kinds = [BEARER, BASIC, CERTIFICATE]
    assert challenges == kinds


def test_every_401_says_what_would_be_taken(place: Place) -> None:
    """RFC 9110 section 15.5.2, also where a certificate is all that is taken, or a policy asks."""
    for target, expected in {"/mesh": [CERTIFICATE], "/both": [CERTIFICATE, BEARER]}.items():
        answer = place.ask(target)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].split("\n") == expected
    answer = place.ask("/judged")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, BASIC)
    assert place.ask("/judged", basic("bea", "bees & honey")).status == 200
    answer = place.ask("/closed")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, BEARER)


def test_envoy_has_nothing_to_warn_of(place: Place) -> None:
    """Whether a certificate is demanded is said to it, though not to demand one is its default."""
    assert place.ask("/several", client="cart").status == 200
    assert "require_client_certificate" not in place.running.said()


def test_a_certificate_beside_a_credential(place: Place) -> None:
    """It isn't counted; alone it is; and it doesn't help a bad credential."""
    assert place.ask("/several", client="cart").sent["x-kind"] == "mtls"
    assert place.ask("/several", bearer(token()), client="cart").sent["x-kind"] == "jwt"
    assert place.ask("/several", bearer(token(exp=1)), client="cart").status == 401


@pytest.mark.parametrize("path", ["/both", "/both-asked"])
def test_all_are_demanded(place: Place, path: str) -> None:
    """Each must be there and good; the last one named says who is calling."""
    place.asked.answers["all-1"] = {"active": True, "sub": "alice", "aud": "shop"}
    place.asked.answers["all-2"] = {"active": False}
    good, bad = ("all-1", "all-2") if path == "/both-asked" else (token(), token(exp=1))
    assert place.ask(path, bearer(good), client="cart").sent["x-user"] == "alice"
    assert place.ask(path, bearer(bad), client="cart").status == 401
    missing = place.ask(path, bearer(good))
    assert place.reason(missing) == "credential_missing"
    assert place.ask(path, client="cart").status == 401
    assert place.ask(path).status == 401


def test_a_token_in_a_cookie(place: Place) -> None:
    """It is taken out of the Cookie header, on open routes too; the other cookies stay."""
    cookie = {"cookie": f"theme=dark; session={token()}; lang=de"}
    sent = place.ask("/web", cookie).sent
    assert (sent["x-user"], sent["cookie"]) == ("alice", "theme=dark; lang=de")
    assert place.ask("/open", cookie).sent["cookie"] == "theme=dark; lang=de"
    assert "cookie" not in place.ask("/open", {"cookie": "session=x"}).sent
    twice = place.ask("/web", {"cookie": f"session={token()}; session=x"})
    assert place.reason(twice) == "several_credentials"
    both = place.ask("/web", cookie | bearer(token()))
    assert place.reason(both) == "several_credentials"


def test_L5_a_token_in_the_query(place: Place) -> None:
    """It is taken out of the path before the upstream, on open routes too."""
    text = token()
    for path in ("/link", "/open"):
        answer = place.ask(f"{path}?a=1&token={text}&b=%20")
        assert answer.json["path"] == f"{path}?a=1&b=%20"
    assert place.ask(f"/link?%74oken={text}").json["path"] == "/link"
    refused = place.ask(f"/link?token={text}&token={text}")
    assert refused.status == 401
    assert place.reason(refused)  # so what came before is recorded too
    assert text not in (place.running.folder / "records.jsonl").read_text()
    assert text not in place.running.said()


def test_a_token_bound_to_a_certificate(place: Place) -> None:
    """RFC 8705: it is worth nothing with another certificate, or with none."""
    thumb = base64.urlsafe_b64encode(place.clients["cart"].sha256).rstrip(b"=").decode()
    text = token(cnf={"x5t#S256": thumb})
    assert place.ask("/bound", bearer(text), client="cart").sent["x-user"] == "alice"
    for client in ("plain", None):
        for _ in range(2):
            assert place.reason(place.ask("/bound", bearer(text), client=client)) == "cnf"
    for confirmation in ({}, {"x5t#S256": ""}, {"x5t#S256": None}, "x", None):
        unbound = token(cnf=confirmation)
        assert place.reason(place.ask("/bound", bearer(unbound), client="cart")) == "cnf"
    twice = token(cnf={"x5t#S256": thumb, "jkt": "x" * 43})
    assert place.reason(place.ask("/bound", bearer(twice), client="cart")) == "cnf"


KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the public key."""
    found: dict[str, Any] = json.loads(pyjwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return found


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the key's thumbprint (RFC 7638)."""
    members = {k: v for k, v in sorted(jwk(key).items()) if k in {"crv", "kty", "x", "y"}}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def proof(text: str, key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> str:
    """Return a DPoP proof for `GET https://127.0.0.1/proven` with a token."""
    ath = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    claims: dict[str, Any] = {
        "jti": str(time.perf_counter_ns()),
        "htm": "GET",
        "htu": "https://127.0.0.1:1234/proven?ignored=1",
        "iat": int(time.time()),
        "ath": ath,
    }
    header = {"typ": "dpop+jwt", "jwk": jwk(key)} | changes.pop("header", {})
    return pyjwt.encode(claims | changes, key, "ES256", header)


def test_a_token_bound_to_a_key(place: Place) -> None:
    """RFC 9449: a fresh proof for each request; neither token nor proof reaches the upstream."""
    text = token(cnf={"jkt": thumbprint(KEY)})
    for _ in range(2):
        headers = {"authorization": f"DPoP {text}", "dpop": proof(text)}
        sent = place.ask("/proven", headers).sent
        assert sent["x-user"] == "alice"
        assert not {"authorization", "dpop"} & sent.keys()
    replayed = {"authorization": f"DPoP {text}", "dpop": proof(text, jti="the-same")}
    assert place.ask("/proven", replayed).status == 200
    assert place.reason(place.ask("/proven", replayed)) == "dpop_replayed"
    version = place.running.status()["version"]
    file = place.running.folder / "gateway.yaml"
    more = "  - {name: more, match: {path: /more}, upstream: echo, authentication: none}\n"
    file.write_text(file.read_text() + more)
    until(lambda: place.running.status()["version"] != version, "another version is in force")
    assert place.reason(place.ask("/proven", replayed)) == "dpop_replayed"
    assert 'DPoP realm="gateway"' in place.ask("/proven").headers["www-authenticate"]


STOLEN = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "POST"},
        {"header": {"jwk": jwk(KEY) | {"kty": []}}},
        {"header": {"jwk": jwk(KEY) | {"key_ops": 5}}},
        {"header": {"jwk": jwk(KEY) | {"key_ops": None}}},
        {"header": {"jwk": jwk(KEY) | {"x": ["a"]}}},
        {"header": {"jwk": jwk(KEY) | {"alg": {}}}},
        {"htu": "https://127.0.0.1/other"},
        {"htu": "https://evil/proven"},
        {"htu": "http://127.0.0.1/proven"},
        {"htu": None},
        {"iat": 1},
        {"iat": int(time.time()) + 3600},
        {"iat": "now"},
        {"ath": "x"},
        {"ath": None},
        {"jti": 5},
        {"jti": ""},
        {"header": {"typ": "JWT"}},
        {"header": {"jwk": None}},
        {"header": {"jwk": {"kty": "oct", "k": "AA"}}},
        {"header": {"jwk": jwk(KEY) | {"d": "AA"}}},
        {"header": {"jwk": jwk(STOLEN)}},
        {"key": STOLEN},
    ],
)
def test_a_proof_for_something_else(place: Place, changes: dict[str, Any]) -> None:
    """Another method, place, time, token or key; or no proof at all."""
    text = token(cnf={"jkt": thumbprint(KEY)})
    headers = {"authorization": f"DPoP {text}", "dpop": proof(text, **changes)}
    answer = place.ask("/proven", headers)
    assert answer.status == 401
    assert place.reason(answer) == ("cnf" if "key" in changes else "dpop")


def test_a_bound_token_without_its_proof(place: Place) -> None:
    """Neither as DPoP nor as a mere bearer token; nor a proof with an unbound token."""
    text = token(cnf={"jkt": thumbprint(KEY)})
    assert place.reason(place.ask("/proven", {"authorization": f"DPoP {text}"})) == "dpop"
    as_bearer = {"authorization": f"Bearer {text}", "dpop": proof(text)}
    assert place.reason(place.ask("/proven", as_bearer)) == "malformed"
    for other in (token(), token(cnf={"jkt": thumbprint(KEY), "x5t#S256": "x" * 43})):
        headers = {"authorization": f"DPoP {other}", "dpop": proof(other)}
        assert place.reason(place.ask("/proven", headers)) == "cnf"


def test_only_access_tokens(place: Place) -> None:
    """RFC 9068 where it is asked for: `typ`, client and id."""
    claims: dict[str, Any] = {"client_id": "app", "jti": "1"}
    good = token({"typ": "at+jwt"}, **claims)
    assert place.ask("/access", bearer(good)).status == 200
    assert place.reason(place.ask("/access", bearer(token(**claims)))) == "typ"
    bare = token({"typ": "at+jwt"})
    assert place.reason(place.ask("/access", bearer(bare))) == "profile"


def test_L2_no_secret_is_told(place: Place) -> None:
    """Passwords and client secrets appear in no output."""
    assert place.reason(place.ask("/basic", basic("bea", "canary-password")))
    told = place.running.said() + (place.running.folder / "records.jsonl").read_text()
    for secret in ("canary-password", CLIENT_SECRET, SECRET, "bees & honey"):
        assert secret not in told
        assert base64.b64encode(f"bea:{secret}".encode()).decode() not in told


def test_what_the_server_was_asked(place: Place, tmp_path: Path) -> None:
    """The question is a form of token and hint."""
    del tmp_path
    place.asked.answers["asked-1"] = {"active": True, "aud": "shop"}
    place.ask("/opaque", bearer("asked-1"))
    assert parse_qs(place.asked.last) == {
        "token": ["asked-1"],
        "token_type_hint": ["access_token"],
    }
