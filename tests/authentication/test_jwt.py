"""JWT: what is accepted, and every way of being refused; ids are those of the attack checklist."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt as pyjwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from extproc.authentication import tokens
from extproc.authentication.bearer import BearerTokens
from extproc.authentication.jwks import KeySource, Pace, discovery_url
from extproc.authentication.jwt import JwtAuthenticator
from extproc.authentication.keys import KeySet, NotAKeySet
from extproc.authentication.plugin import Authenticate
from extproc.authentication.schemes import InHeader
from extproc.authentication.tokens import Refused, Rules
from extproc.core.errors import UpstreamFault
from extproc.core.principal import Principal
from extproc.core.values import Request
from extproc.testing import Trial, answered

ISSUER = "http://issuer"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
NOW = 1_800_000_000
CLAIMS = {"iss": ISSUER, "aud": "shop", "sub": "alice", "exp": NOW + 600, "scope": "a b"}


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """Return the public JWK of a private key."""
    kinds: dict[Any, Any] = {
        rsa.RSAPrivateKey: pyjwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: pyjwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: pyjwt.algorithms.OKPAlgorithm,
    }
    algorithm = next(a for kind, a in kinds.items() if isinstance(key, kind))
    made: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return made | {"kid": kid} | more


KEYS = {"keys": [jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(P384, "p384"), jwk(ED, "ed")]}


def authenticator(
    keys: dict[str, Any] | None = None, algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
) -> JwtAuthenticator:
    """Return an authenticator with fixed keys."""
    source = KeySource.fixed(ISSUER, KeySet.read(orjson.dumps(keys or KEYS)))
    rules = Rules(ISSUER, frozenset({"shop"}), 5.0, 86_400.0)
    return JwtAuthenticator("shop", rules, frozenset(algorithms), source)


def bearer(subject: JwtAuthenticator) -> InHeader:
    """Return the Authorization header with tokens of one issuer in it."""
    return InHeader("authorization", {"bearer": BearerTokens([subject])})


def signed(
    claims: dict[str, Any] | None = None,
    key: Any = RSA,
    algorithm: str = "RS256",
    **header: Any,
) -> str:
    """Return a token."""
    named = {"kid": "rsa"} | header
    return pyjwt.encode(claims or CLAIMS, key, algorithm, {k: v for k, v in named.items() if v})


def b64(data: bytes) -> str:
    """Encode as JWTs do."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: bytes, payload: bytes, key: rsa.RSAPrivateKey = RSA) -> str:
    """Return a token whose header and payload are these very bytes, rightly signed."""
    text = f"{b64(header)}.{b64(payload)}"
    algorithm = pyjwt.get_algorithm_by_name("RS256")
    return f"{text}.{b64(algorithm.sign(text.encode(), key))}"


HEADER = b'{"alg":"RS256","kid":"rsa"}'


def payload(**changes: Any) -> bytes:
    """Return claims as JSON."""
    return json.dumps(CLAIMS | changes).encode()


def verify(text: str, subject: JwtAuthenticator | None = None, now: float = NOW) -> Principal:
    """Verify a token; the authenticator never has to wait here."""
    result = (subject or authenticator()).verify(text, tokens.read(text), Request(), now, now)
    if isinstance(result, Principal):
        return result
    try:
        result.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        found: Principal = stop.value
        return found
    raise AssertionError("it waits")


def reason(text: str, subject: JwtAuthenticator | None = None, now: float = NOW) -> str:
    """Return why a token is refused."""
    with pytest.raises(Refused) as caught:
        verify(text, subject, now)
    return caught.value.reason


def test_a_good_token() -> None:
    """Subject, issuer, scopes and claims become the principal."""
    principal = verify(signed())
    assert (principal.subject, principal.issuer, principal.kind) == ("alice", ISSUER, "jwt")
    assert principal.scopes == ("a", "b")
    assert principal.claims["aud"] == "shop"


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(EC, "ES256", "ec"), (ED, "EdDSA", "ed"), (RSA, "RS256", "")]
)
def test_other_families(key: Any, algorithm: str, kid: str) -> None:
    """By key id, and without one if a key fits."""
    assert verify(signed(None, key, algorithm, kid=kid)).subject == "alice"


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, 5, "HS256", "RS1"])
def test_j1_algorithms(alg: Any) -> None:
    """J1, J4: only what is configured."""
    header = json.dumps({"alg": alg, "kid": "rsa"}).encode()
    assert reason(by_hand(header, payload())) == "alg"
    assert reason(by_hand(b'{"kid":"rsa"}', payload())) == "alg"


def test_j2_public_key_as_secret() -> None:
    """J2: HS256 with the public key as secret, even if HS256 were allowed."""
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = b64(b'{"alg":"HS256","kid":"rsa"}') + "." + b64(payload())
    signature = hmac.digest(pem, text.encode(), "sha256")
    token = f"{text}.{b64(signature)}"
    assert reason(token) == "alg"
    assert reason(token, authenticator(algorithms=("RS256", "HS256"))) == "alg"


def test_j3_the_keys_own_algorithm_counts() -> None:
    """J3: header and key must agree."""
    keys = {"keys": [jwk(RSA, "rsa", alg="RS512")]}
    assert reason(signed(), authenticator(keys)) == "alg"


def test_j4_the_curve_counts() -> None:
    """J4: an ES256 token under a P-384 key."""
    assert reason(signed(None, EC, "ES256", kid="p384")) == "alg"


def test_j5_secret_keys_in_a_public_set_are_left_out() -> None:
    """J5: an `oct` key in a fetched set verifies nothing."""
    entry = {"kty": "oct", "k": b64(b"secret" * 8), "kid": "oct"}
    keys = KeySet.read(orjson.dumps({"keys": [*KEYS["keys"], entry]}))
    assert keys.refused == 1
    assert not keys.candidates("oct")


def test_j6_a_key_id_twice_is_nobodys() -> None:
    """J6: neither of the two is used."""
    keys = {"keys": [jwk(RSA, "rsa"), jwk(OTHER, "rsa"), jwk(EC, "ec")]}
    assert reason(signed(), authenticator(keys)) == "kid"


@pytest.mark.parametrize("more", [{"use": "enc"}, {"key_ops": ["encrypt"]}])
def test_j7_encryption_keys(more: dict[str, Any]) -> None:
    """J7: a key for something else verifies nothing."""
    assert not KeySet.read(orjson.dumps({"keys": [jwk(RSA, "a", **more), jwk(EC, "b")]})).by_id.get(
        "a"
    )


def test_j8_weak_keys() -> None:
    """J8: RSA below 2048 bits is left out, the others stay."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - weak on purpose
    keys = KeySet.read(orjson.dumps({"keys": [jwk(weak, "weak"), jwk(EC, "ec")]}))
    assert set(keys.by_id) == {"ec"}


@pytest.mark.parametrize(
    "odd",
    [
        {"key_ops": None},
        {"key_ops": 5},
        {"key_ops": "verify"},
        {"kty": ["RSA"]},
        {"kty": {}},
        {"alg": {}},
        {"alg": ["RS256"]},
        {"use": ["sig"]},
        {"n": 5},
        {"n": None},
        {"e": ["AQAB"]},
        {"e": ""},
        {"kid": 5},
    ],
)
def test_j8_an_odd_key_is_left_out(odd: dict[str, Any]) -> None:
    """J8: whatever it is that is odd, the others stay."""
    keys = KeySet.read(orjson.dumps({"keys": [jwk(EC, "ec"), jwk(RSA, "odd") | odd]}))
    assert set(keys.by_id) == {"ec"}
    assert keys.refused == 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just("AQAB"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
MEMBERS = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "x5c"])


@given(
    st.sampled_from(KEYS["keys"]),
    st.dictionaries(
        MEMBERS, JUNK | st.sampled_from(["RSA", "EC", "OKP", "P-256", "X25519"]), max_size=3
    ),
)
def test_j8_any_key_is_read_or_left_out(entry: dict[str, Any], odd: dict[str, Any]) -> None:
    """J8: no document raises anything but what says that it is no key set."""
    KeySet.read(orjson.dumps({"keys": [jwk(EC, "sound"), entry | odd]}))


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "x' UNION SELECT", "|id", "k" * 3000, 5, {"a": 1}, ["rsa"]]
)
def test_j10_strange_key_ids(kid: Any) -> None:
    """J10: a key id is only ever compared."""
    header = json.dumps({"alg": "RS256", "kid": kid}).encode()
    assert reason(by_hand(header, payload())) == "kid"


def test_j11_without_key_id_only_a_few_are_tried() -> None:
    """J11: the number of verifications is bounded."""
    many = [jwk(ec.generate_private_key(ec.SECP256R1()), f"k{number}") for number in range(20)]
    keys = KeySet.read(orjson.dumps({"keys": many}))
    assert len(keys.candidates("")) == 4


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["x"]},
        {"crit": []},
        {"crit": "exp"},
        {"b64": False},
        {"b64": True, "crit": ["b64"]},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
    ],
)
def test_j14_j15_extensions(more: dict[str, Any]) -> None:
    """J14, J15, J22: nothing that changes what a token is."""
    header = json.dumps({"alg": "RS256", "kid": "rsa"} | more).encode()
    assert reason(by_hand(header, payload())) == "crit"


@pytest.mark.parametrize("member", ["exp", "sub", "aud", "iss"])
def test_j16_duplicate_members(member: str) -> None:
    """J16: in either order, in header and payload."""
    value = json.dumps(CLAIMS[member])
    for one, two in ((value, '"x"'), ('"x"', value)):
        rest = json.dumps({k: v for k, v in CLAIMS.items() if k != member})[1:]
        text = f'{{"{member}":{one},"{member}":{two},{rest}'
        assert reason(by_hand(HEADER, text.encode())) == "malformed"
    double = b'{"alg":"none","alg":"RS256","kid":"rsa"}'
    assert reason(by_hand(double, payload())) == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        "null",
        '"123"',
        '"9e9"',
        "true",
        "[1]",
        "{}",
        "-1",
        "0",
        "1.5",
        "1e400",
        "1" + "0" * 400,
        "NaN",
        "Infinity",
        "9" * 5000,
    ],
)
def test_j17_expiry(value: str) -> None:
    """J17: only a finite number in the future, within the longest lifetime."""
    text = payload().replace(str(NOW + 600).encode(), value.encode())
    assert reason(by_hand(HEADER, text)) in {"exp", "malformed"}


def test_j17_no_expiry() -> None:
    """J17: a token that never ends isn't accepted."""
    assert reason(signed({k: v for k, v in CLAIMS.items() if k != "exp"})) == "exp"


def test_j18_skew() -> None:
    """J18: accepted while now < exp + leeway, and from now >= nbf - leeway."""
    text = signed(CLAIMS | {"exp": NOW})
    assert verify(text, now=NOW + 4.9)
    assert reason(text, now=NOW + 5) == "exp"
    text = signed(CLAIMS | {"nbf": NOW + 10})
    assert verify(text, now=NOW + 5)
    assert reason(text, now=NOW + 4.9) == "nbf"
    assert reason(signed(CLAIMS | {"iat": NOW + 100})) == "iat"
    assert reason(signed(CLAIMS | {"exp": NOW + 90_000})) == "exp"


@pytest.mark.parametrize(
    "value", [None, [], {}, "sho", "shop2", "Shop", "shop/", ["shop", 5], 5, ["other"]]
)
def test_j19_audience(value: Any) -> None:
    """J19: exactly one of ours, as text or in a list of texts."""
    assert reason(by_hand(HEADER, payload(aud=value))) == "aud"


def test_j19_audience_in_a_list() -> None:
    """J19: one of several is enough."""
    assert verify(signed(CLAIMS | {"aud": ["other", "shop"]})).subject == "alice"


@pytest.mark.parametrize(
    "value", [["http://issuer"], "http://issue", "http://issuer/", "HTTP://ISSUER", None]
)
def test_j20_issuer(value: Any) -> None:
    """J20: exactly ours."""
    assert reason(by_hand(HEADER, payload(iss=value))) == "iss"


def test_j20_another_issuers_key() -> None:
    """J20: the same key id in another set doesn't help."""
    assert reason(signed(CLAIMS, OTHER)) == "signature"


@pytest.mark.parametrize("kind", ["logout+jwt", "application/logout+jwt", "secevent+jwt"])
def test_j21_tokens_for_something_else(kind: str) -> None:
    """J21: by type and by use."""
    assert reason(signed(typ=kind)) == "typ"
    assert reason(signed(CLAIMS | {"token_use": "id"})) == "typ"


OTHERS: list[dict[str, Any]] = [
    {"token_use": "refresh_token"},
    {"token_type": "refresh"},
    {"typ": "ID"},
    {"typ": "Refresh"},
    {"typ": "Offline"},
    {"type": "refresh"},
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
]


@pytest.mark.parametrize("claims", OTHERS)
def test_j21_issuers_say_it_in_many_ways(claims: dict[str, Any]) -> None:
    """J21: an access token of the same issuers says another thing in the same place."""
    assert reason(signed(CLAIMS | claims)) == "typ"
    usual = {"token_use": "access", "token_type": "Bearer", "typ": "Bearer", "type": "access"}
    assert verify(signed(CLAIMS | {name: usual.get(name, {}) for name in claims})).subject


@pytest.mark.parametrize(
    "confirmation",
    [{"jkt": "x" * 43}, {"x5t#S256": "x" * 43}, {"kid": "x"}, {"jwk": {}}, {"new": 1}, "x", []],
)
def test_a_bound_token_is_no_bearer_token(confirmation: object) -> None:
    """Who stole it can't present it in the other way (RFC 9449 section 7.2, RFC 8705 section 3)."""
    assert reason(signed(CLAIMS | {"cnf": confirmation})) == "cnf"


@pytest.mark.parametrize("confirmation", [None, {}, {"jkt": None}])
def test_a_token_that_is_bound_to_nothing_is_one(confirmation: object) -> None:
    """`null` binds to nothing."""
    assert verify(signed(CLAIMS | {"cnf": confirmation})).subject


def test_j22_other_serialisations() -> None:
    """J22: nested, encrypted and JSON forms."""
    assert reason(signed(cty="JWT")) == "malformed"
    for text in ("a.b.c.d.e", '{"payload":"x","signatures":[]}', "a.b", "a..c", "..."):
        assert reason(text) == "malformed"


def test_j23_large_tokens() -> None:
    """J23: 8 KiB is the bound, checked before anything is decoded."""
    assert reason("a" * 8193) == "too_large"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + "=",
        lambda t: t + ".",
        lambda t: t[:-1] + " ",
        lambda t: t.replace(".", ".\n", 1),
    ],
)
def test_j24_sloppy_encoding(change: Any) -> None:
    """J24: one token has one spelling."""
    assert reason(change(signed())) == "malformed"


def test_j24_unused_bits() -> None:
    """J24: the bits that no byte uses must be zero."""
    text = b64(b'{"alg":"RS256"}x')
    sloppy = text[:-1] + chr(ord(text[-1]) + 1)
    assert reason(f"{sloppy}.{b64(b'{}')}.AA") == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'"str"',
        json.dumps(CLAIMS).encode("utf-16"),
        b"\xef\xbb\xbf" + payload(),
        payload().replace(b"alice", b"\xff"),
        payload().replace(b"alice", b"\\ud800"),
        payload().replace(b"alice", b"a\\u0000b"),
        b'{"a":' * 100_0 + b"1" + b"}" * 100_0,
        b"[" * 900 + b"]" * 900,
    ],
)
def test_j25_strange_payloads(data: bytes) -> None:
    """J25: refused as malformed, never an exception."""
    text = by_hand(HEADER, data)
    if len(text) <= tokens.LONGEST_TOKEN:
        assert reason(text) == "malformed"
    else:
        assert reason(text) == "too_large"


@given(st.text(st.characters(max_codepoint=0xFF), max_size=80))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    """F5: nothing else comes out of the reader."""
    try:
        tokens.read(text)
    except Refused as error:
        assert error.reason  # noqa: PT017 - most texts are refused


def test_verified_tokens_are_remembered_until_they_end() -> None:
    """The second time costs a lookup; at its end a token is forgotten."""
    subject, text = authenticator(), signed()
    assert subject.known(text, NOW, NOW) is None
    verify(text, subject)
    assert subject.known(text, NOW, NOW) is not None
    assert subject.known(text, NOW + 606, NOW) is None


def trial(subject: JwtAuthenticator, *, anonymous: bool = False) -> Trial:
    """Return a trial of a route with this authenticator."""
    return Trial(Authenticate(schemes=(bearer(subject),), anonymous=anonymous))


def fresh(**changes: Any) -> str:
    """Return a token for the trial's clock."""
    return signed(CLAIMS | changes)


async def test_the_plugin_challenges() -> None:
    """None presented, or not accepted: 401 with a challenge that says no more."""
    for headers, error in (({}, False), ({"authorization": "Bearer x.y.z"}, True)):
        response = await trial(authenticator()).request(headers=headers)
        assert response.status == 401
        assert ("invalid_token" in response.headers["www-authenticate"]) == error


@pytest.mark.parametrize(
    "value", ["Basic YTpi", "Bearer", "Bearer  x", "Bearer a, Bearer b", "bearer\tx", ""]
)
async def test_j27_f13_an_invalid_credential_is_never_anonymous(value: str) -> None:
    """J27, F13: optional authentication accepts none or a valid one."""
    subject = trial(authenticator(), anonymous=True)
    assert (await subject.request(headers={"authorization": value})).status == 401
    assert (await subject.request()).status == 200
    text = fresh()
    assert (await subject.request(headers={"authorization": f"bearer {text}"})).status == 200


async def test_what_is_refused_is_counted() -> None:
    """By reason, so that somebody who tries tokens is noticed; who is let in is not."""
    subject = trial(authenticator())
    for headers, status in (
        ({}, 401),
        ({"authorization": f"Bearer {fresh()}"}, 200),
        ({"authorization": f"Bearer {signed(CLAIMS, OTHER)}"}, 401),
        ({"authorization": "Bearer x"}, 401),
        ({"authorization": "Bearer x"}, 401),
    ):
        assert (await subject.request(headers=headers)).status == status
    name = "extproc_decisions_total"
    counted = {labels: n for (metric, labels), n in subject.counts.counts.items() if metric == name}
    assert counted == {
        ("trial", "deny", "unauthenticated"): 1,
        ("trial", "deny", "signature"): 1,
        ("trial", "deny", "malformed"): 2,
    }


async def test_what_cannot_be_judged_is_counted() -> None:
    """As an error: it is the issuer's, not the caller's."""
    subject = trial(remote())
    assert (await subject.request(headers={"authorization": f"Bearer {fresh()}"})).status == 503
    assert subject.counts.counts["extproc_decisions_total", ("trial", "error", "keys_missing")] == 1


def remote(pace: Pace | None = None) -> JwtAuthenticator:
    """Return an authenticator that finds its keys by discovery."""
    source = KeySource(ISSUER, discovery_url(ISSUER), discovery=True, pace=pace or Pace())
    rules = Rules(ISSUER, frozenset({"shop"}), 5.0, 86_400.0)
    return JwtAuthenticator("shop", rules, frozenset({"RS256"}), source)


def published(subject: Trial, keys: dict[str, Any], issuer: str = ISSUER) -> None:
    """Let the issuer publish these keys."""
    metadata = {"issuer": issuer, "jwks_uri": f"{ISSUER}/jwks"}
    subject.outside.answers |= {
        discovery_url(ISSUER): answered(orjson.dumps(metadata)),
        f"{ISSUER}/jwks": answered(orjson.dumps(keys)),
    }


async def test_keys_by_discovery_and_rotation() -> None:
    """J29, J30: a new key is found by one fetch; unknown ids cost one fetch per cooldown."""
    subject = trial(remote())
    published(subject, {"keys": [jwk(RSA, "rsa")]})
    bearer = {"authorization": f"Bearer {fresh()}"}
    assert (await subject.request(headers=bearer)).status == 200
    fetched = len(subject.outside.calls)
    new = signed(CLAIMS, OTHER, kid="new")
    for _ in range(20):
        assert (await subject.request(headers={"authorization": f"Bearer {new}"})).status == 401
    assert len(subject.outside.calls) == fetched
    published(subject, {"keys": [jwk(RSA, "rsa"), jwk(OTHER, "new")]})
    subject.clock.move(11)
    assert (await subject.request(headers={"authorization": f"Bearer {new}"})).status == 200
    assert (await subject.request(headers=bearer)).status == 200


async def test_j31_outages_keep_the_last_good_keys() -> None:
    """J31: until they are too old; then 503, and again good when the issuer is back."""
    subject = trial(remote(Pace(max_stale=1000)))
    published(subject, {"keys": [jwk(RSA, "rsa")]})
    bearer = {"authorization": f"Bearer {fresh(exp=NOW + 5000)}"}
    assert (await subject.request(headers=bearer)).status == 200
    subject.outside.answers.clear()
    subject.clock.move(900)
    assert (await subject.request(headers=bearer)).status == 200
    subject.clock.move(200)
    assert (await subject.request(headers=bearer)).status == 503
    published(subject, {"keys": [jwk(RSA, "rsa")]})
    subject.clock.move(11)
    assert (await subject.request(headers=bearer)).status == 200


async def test_a_reload_keeps_the_keys() -> None:
    """J31: a new version of the gateway file, loaded while the issuer is away, still verifies."""
    before, after = trial(remote()), trial(remote())
    published(before, {"keys": [jwk(RSA, "rsa")]})
    bearer = {"authorization": f"Bearer {fresh()}"}
    assert (await before.request(headers=bearer)).status == 200
    before.outside.answers.clear()
    after.outside = before.outside
    assert (await after.request(headers=bearer)).status == 200


@pytest.mark.parametrize("garbage", [b"<html>", b'{"keys": []}', b"{}"])
async def test_a_reload_keeps_the_keys_through_garbage(garbage: bytes) -> None:
    """J31: an outage may look like a page that says so, with status 200."""
    for url in (f"{ISSUER}/jwks", discovery_url(ISSUER)):
        before, after = trial(remote()), trial(remote())
        published(before, {"keys": [jwk(RSA, "rsa")]})
        bearer = {"authorization": f"Bearer {fresh()}"}
        assert (await before.request(headers=bearer)).status == 200
        before.outside.answers[url] = answered(garbage)
        before.clock.move(11)
        unknown = {"authorization": f"Bearer {signed(CLAIMS, OTHER, kid='new')}"}
        assert (await before.request(headers=unknown)).status == 401
        assert before.outside.calls[-1][0] == url
        after.outside = before.outside
        assert (await after.request(headers=bearer)).status == 200


async def test_what_another_worker_fetched_counts_within_the_cooldown() -> None:
    """J30: a key that is new, and keys that were not to be had a moment ago."""
    one, two, three = trial(remote()), trial(remote()), trial(remote())
    one.outside = two.outside
    assert (await one.request(headers={"authorization": f"Bearer {fresh()}"})).status == 503
    published(one, {"keys": [jwk(RSA, "rsa")]})
    bearer = {"authorization": f"Bearer {fresh()}"}
    assert (await one.request(headers=bearer)).status == 503  # it has just asked
    assert (await two.request(headers=bearer)).status == 200
    one.clock.move(1)
    asked = len(one.outside.calls)
    assert (await one.request(headers=bearer)).status == 200

    new = {"authorization": f"Bearer {signed(CLAIMS, OTHER, kid='new')}"}
    assert (await one.request(headers=new)).status == 401
    published(one, {"keys": [jwk(RSA, "rsa"), jwk(OTHER, "new")]})
    assert len(one.outside.calls) == asked
    three.outside = one.outside
    assert (await three.request(headers=new)).status == 200
    one.clock.move(1)
    asked = len(one.outside.calls)
    assert (await one.request(headers=new)).status == 200
    assert len(one.outside.calls) == asked


@pytest.mark.parametrize(
    "document", [b"<html>", b"{}", b'{"keys":[]}', b'{"keys":', b'{"keys":{}}', b"[]", b"null"]
)
async def test_j31_documents_that_are_no_key_sets(document: bytes) -> None:
    """J31, J32: 503 with Retry-After for tokens of that issuer."""
    with pytest.raises(NotAKeySet):
        KeySet.read(document)
    subject = trial(remote())
    published(subject, {"keys": [jwk(RSA, "rsa")]})
    subject.outside.answers[f"{ISSUER}/jwks"] = answered(document)
    response = await subject.request(headers={"authorization": f"Bearer {fresh()}"})
    assert response.status == 503
    assert response.headers["retry-after"]


async def test_discovery_must_be_the_issuers_own() -> None:
    """A document that names another issuer isn't used."""
    subject = trial(remote())
    published(subject, {"keys": [jwk(RSA, "rsa")]}, issuer="http://other")
    assert (await subject.request(headers={"authorization": f"Bearer {fresh()}"})).status == 503
    subject.outside.answers[discovery_url(ISSUER)] = UpstreamFault("timeout", "slow")
    subject.clock.move(11)
    assert (await subject.request(headers={"authorization": f"Bearer {fresh()}"})).status == 503


def test_the_clock_is_not_the_machines() -> None:
    """These tests don't depend on the date."""
    assert abs(time.time() - NOW) > 1000
