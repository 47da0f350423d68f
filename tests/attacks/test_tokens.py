"""J: tokens and keys. Each runs on a protected, an optional and a public route."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import load
from tests.attacks import minting
from tests.attacks.conftest import API_SECRET, files
from tests.attacks.minting import b64, claims, header, raw, token
from tests.attacks.place import (
    Place,
    allowed,
    bearer,
    clean,
    denied,
    gateway_text,
    malformed,
    now,
)
from tests.attacks.wire import request
from tests.support.processes import head

if TYPE_CHECKING:
    from pathlib import Path

TOO_LARGE = frozenset({400, 431})


def refused(place: Place, text: str, *reasons: str) -> None:
    """Expect 401 where a token is looked at, and that it is taken off where none is."""
    targets = ("/private/x", "/optional/x", "/public/x")
    *all_seen, public = [place.get(target, bearer(text)) for target in targets]
    for seen in all_seen:
        record = denied(place, seen, 401, *reasons)
        assert record["by"] == "authenticate"
        assert record["principal"]["kind"] == "anonymous"
    allowed(place, public)


def payload(**changes: Any) -> bytes:
    """Return good claims as JSON, with changes."""
    return json.dumps(claims(**changes)).encode()


def headed(**changes: Any) -> bytes:
    """Return a good header as JSON, with changes."""
    return json.dumps(header(**changes)).encode()


def test_the_good_token_passes(place: Place) -> None:
    """The control of every refusal below."""
    for name, algorithm in (("rsa", "RS256"), ("ec", "ES256"), ("p384", "ES384"), ("ed", "EdDSA")):
        text = token(head={"alg": algorithm, "kid": name}, name=name, algorithm=algorithm)
        assert allowed(place, place.get("/private/x", bearer(text)), "alice")["status"] is None


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, 5, ...])
@pytest.mark.parametrize("signed", ["", "AA", "right"])
def test_J1_algorithm_none(place: Place, alg: Any, signed: str) -> None:
    """J1: nothing but a configured algorithm, whatever the signature."""
    text = raw(headed(alg=alg), payload())
    if signed != "right":
        text = f"{text.rpartition('.')[0]}.{signed}"
    refused(place, text, "alg", "malformed")


def _public_forms() -> dict[str, bytes]:
    public = minting.key("rsa").public_key()
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    text = public.public_bytes(pem, form)
    modulus = minting.numbers(minting.key("rsa")).n
    return {
        "PEM": text,
        "PEM without its last line end": text.rstrip(b"\n"),
        "DER": public.public_bytes(der, form),
        "JWK": json.dumps(minting.jwk("rsa")).encode(),
        "modulus": modulus.to_bytes(256, "big"),
        "empty": b"",
    }


@pytest.mark.parametrize("form", _public_forms())
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_J2_public_key_as_secret(place: Place, form: str, alg: str) -> None:
    """J2: a symmetric algorithm is never this gateway's."""
    text = f"{b64(headed(alg=alg))}.{b64(payload())}"
    mac = hmac.digest(_public_forms()[form], text.encode(), f"sha{alg[2:]}")
    refused(place, f"{text}.{b64(mac)}", "alg")


@pytest.mark.parametrize(
    ("kid", "alg"), [("rs512", "RS256"), ("rsa", "ES256"), ("ec", "RS256"), ("ed", "ES256")]
)
def test_J3_header_and_key_disagree(place: Place, kid: str, alg: str) -> None:
    """J3: both name the algorithm, and it is one of the configured."""
    text = f"{b64(headed(alg=alg, kid=kid))}.{b64(payload())}"
    names = {"RS256": "rs512", "ES256": "ec"}
    signed = b64(minting.signature(text, names[alg], alg))
    refused(place, f"{text}.{signed}", "alg")


@pytest.mark.parametrize(
    ("kid", "name", "alg"),
    [
        ("p384", "ec", "ES256"),
        ("ec", "p384", "ES384"),
        ("ec", "k1", "ES256K"),
        ("rsa", "rsa", "RS384"),
        ("rsa", "rsa", "PS512"),
    ],
)
def test_J4_other_curves_and_families(place: Place, kid: str, name: str, alg: str) -> None:
    """J4: the curve is the key's, and a real algorithm that isn't configured is none."""
    text = token(head={"alg": alg, "kid": kid}, name=name, algorithm=alg)
    refused(place, text, "alg")


@pytest.mark.parametrize("alg", ["RS1", "RS0", "ES256 ", "es256", "rs256", "RS256\u0000", "\u0000"])
def test_J4_unregistered_algorithms(place: Place, alg: str) -> None:
    """J4: names are exact."""
    refused(place, raw(headed(alg=alg), payload()), "alg", "malformed")


@pytest.mark.parametrize(
    ("kid", "secret"), [("oct", b"secret" * 8), ("empty", b""), ("short", b"x")]
)
def test_J5_secret_key_in_a_public_set(place: Place, kid: str, secret: bytes) -> None:
    """J5, J8: `oct` keys verify nothing, not even their own kind."""
    text = f"{b64(headed(alg='HS256', kid=kid))}.{b64(payload())}"
    refused(place, f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}", "alg")
    refused(place, token(head={"kid": kid}), "kid")


@pytest.mark.parametrize("name", ["twice", "twice2"])
def test_J6_key_id_twice(place: Place, name: str) -> None:
    """J6: neither of two keys with one id is used; the other keys are."""
    refused(place, token(head={"kid": "twice"}, name=name), "kid")


@pytest.mark.parametrize("name", ["enc", "ops"])
def test_J7_encryption_keys(place: Place, name: str) -> None:
    """J7: a key for something else verifies nothing."""
    refused(place, token(head={"kid": name}, name=name), "kid")


@pytest.mark.parametrize("name", ["weak", "off"])
def test_J8_weak_keys(place: Place, name: str) -> None:
    """J8: too short, or no point of the curve; the others stay (see the control)."""
    if name == "weak":
        refused(place, token(head={"kid": "weak"}, name="weak"), "kid")
    else:
        text = token(head={"kid": "off", "alg": "ES256"}, name="ec", algorithm="ES256")
        refused(place, text, "kid")


def test_J8_exponent_one(place: Place) -> None:
    """J8: with e = 1 the padded digest is its own signature, which anybody can write."""
    text = f"{b64(headed(kid='e1'))}.{b64(payload())}"
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    digest = prefix + hashlib.sha256(text.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest)) + b"\x00" + digest
    refused(place, f"{text}.{b64(padded)}", "kid")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "none", "RS1"])
def test_J9_no_shared_secret_beside_public_keys(tmp_path: Path, algorithm: str) -> None:
    """J9, J2: with public keys no symmetric algorithm can be configured."""
    wrong(tmp_path, "[RS256,", f"[{algorithm},", "algorithms")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "secret",
        "your-256-bit-secret",
        "changeme",
        "Sn1f",
        "a" * 31,
        "a" * 64,
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
    ],
)
def test_J9_secrets_that_are_none(tmp_path: Path, secret: str) -> None:
    """J9: shorter than its hash, as nearly all public ones are, or one that tutorials show."""
    wrong(tmp_path, "jwks: other.json", f'secret: "{secret}"', "secret")


def wrong(folder: Path, old: str, new: str, named: str) -> None:
    """Expect that the gateway file with a change is refused, naming the key."""
    for name, content in files().items():
        (folder / name).write_text(content)
    text = head(1, 2) + gateway_text(3)
    file = folder / "gateway.yaml"
    file.write_text(text)
    load(file, {})
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=named):
        assemble(load(file, {}))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "x' UNION SELECT 'rsa",
        "|id",
        "http://127.0.0.1/",
        "RSA",
        "rsa ",
        "k" * 3000,
        5,
        True,
        None,
        {"a": 1},
        ["rsa"],
    ],
)
def test_J10_strange_key_ids(place: Place, kid: Any) -> None:
    """J10: a key id is only ever compared."""
    refused(place, raw(headed(kid=kid), payload()), "kid")


def test_J10_key_id_with_nul_or_too_long(place: Place) -> None:
    """J10: refused before it is looked up."""
    refused(place, raw(headed(kid="rsa\0"), payload()), "malformed")
    refused(place, raw(headed(kid="k" * 10_000), payload()), "too_large")


def test_J11_without_key_id_few_keys_are_tried(place: Place) -> None:
    """J11: of fifty keys at most four."""
    for number, fits in ((0, True), (3, True), (4, False), (30, False), (49, False)):
        text = token(
            head={"kid": ..., "alg": "ES256"},
            name=f"ec{number}",
            algorithm="ES256",
            iss=minting.MANY_ISSUER,
        )
        seen = place.get("/private/x", bearer(text))
        if fits:
            allowed(place, seen, "alice")
        else:
            denied(place, seen, 401, "signature")


@pytest.mark.parametrize("kid", ["mallory", "rsa", ...])
def test_J12_the_tokens_own_key(place: Place, kid: Any) -> None:
    """J12: a key inside the token is nobody's."""
    text = token(head={"jwk": minting.jwk("mallory"), "kid": kid}, name="mallory")
    refused(place, text, "kid", "signature")


@pytest.mark.parametrize("member", ["jku", "x5u", "x5c", "jwks_uri"])
def test_J13_no_key_is_fetched_for_a_token(place: Place, member: str) -> None:
    """J13: nobody is asked because a token says so."""
    here = f"http://127.0.0.1:{place.upstream.port}/stolen.json"
    value: Any = [b64(b"chain")] if member == "x5c" else here
    before = len(place.upstream.received)
    text = token(head={member: value, "kid": "mallory"}, name="mallory")
    refused(place, text, "kid")
    assert [got.path for got in place.upstream.received[before:]] == ["/public/x"]


@pytest.mark.parametrize(
    "crit", [["x"], [], "exp", ["alg"], ["absent"], ["b64"], None, {"exp": 1}, True]
)
def test_J14_critical_extensions(place: Place, crit: Any) -> None:
    """J14: none is understood, in whatever form."""
    refused(place, raw(headed(crit=crit, b64=True), payload()), "crit")
    refused(place, raw(headed(crit=crit), payload()), "crit")


def test_J15_unencoded_payloads(place: Place) -> None:
    """J15: with and without `crit`, and detached."""
    for more in ({"b64": False}, {"b64": False, "crit": ["b64"]}, {"b64": True}):
        refused(place, raw(headed(**more), payload()), "crit")
    first, _, last = token().split(".")
    refused(place, f"{first}..{last}", "malformed")
    plain = payload().decode().replace(" ", "")
    signed = minting.signature(f"{first}.{plain}")
    refused(place, f"{first}.{plain}.{b64(signed)}", "malformed")


def _twice() -> dict[str, tuple[bytes, bytes]]:
    """Return headers and payloads with a member twice, in both orders."""
    made = {
        f"alg {order}": (b'{"alg":"%s","alg":"%s","kid":"rsa"}' % pair, payload())
        for order, pair in enumerate([(b"none", b"RS256"), (b"RS256", b"none")])
    }
    made["kid"] = (b'{"alg":"RS256","kid":"x","kid":"rsa"}', payload())
    made["nested"] = (headed(), payload()[:-1] + b',"a":{"b":1,"b":1}}')
    made["escaped"] = (headed(), payload()[:-1] + rb',"s\u0075b":"root"}')
    values = {"exp": now() + 600, "sub": "alice", "aud": "shop", "roles": ["a"], "iss": "x"}
    for name, value in values.items():
        good, bad = json.dumps(claims().get(name, value)), '"admin"'
        rest = json.dumps(claims(**{name: ...}))[1:]
        for order, (one, two) in enumerate([(good, bad), (bad, good), (good, good)]):
            text = f'{{"{name}":{one},"{name}":{two},{rest}'
            made[f"{name} {order}"] = (headed(), text.encode())
    return made


@pytest.mark.parametrize("name", _twice())
def test_J16_duplicate_members(place: Place, name: str) -> None:
    """J16: a member twice is refused, even with one value."""
    head_, body = _twice()[name]
    refused(place, raw(head_, body), "malformed")


@pytest.mark.parametrize(
    "value",
    [
        "null",
        '"123"',
        '"9e9"',
        "true",
        "[99999999999]",
        "{}",
        "-1",
        "0",
        "1.5",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "1" + "0" * 400,
        "9" * 5000,
        "99999999999",
        "1e300",
    ],
)
def test_J17_expiry(place: Place, value: str) -> None:
    """J17: only a finite number in the future, below the longest lifetime."""
    text = payload(exp="@").replace(b'"@"', value.encode())
    refused(place, raw(headed(), text), "exp", "malformed")


def test_J17_no_expiry_and_a_good_fraction(place: Place) -> None:
    """J17: absent is refused; a finite fraction in the future is a number."""
    refused(place, token(exp=...), "exp")
    allowed(place, place.get("/private/x", bearer(token(exp=now() + 60.5))), "alice")


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("value", ["future", '"1"', "NaN", "null", "true", "[1]"])
def test_J18_not_yet(place: Place, name: str, value: str) -> None:
    """J18: a moment that hasn't come, or that isn't one."""
    moment = str(now() + 100) if value == "future" else value
    text = payload(**{name: "@"}).replace(b'"@"', moment.encode())
    refused(place, raw(headed(), text), name, "malformed")


def test_J18_skew_and_longest_lifetime(place: Place) -> None:
    """J18: well inside and outside the five seconds; the exact edges are the unit test's."""
    allowed(place, place.get("/private/x", bearer(token(nbf=now() + 2, iat=now() + 2))), "alice")
    allowed(place, place.get("/private/x", bearer(token(exp=now() + 86_300))), "alice")
    refused(place, token(exp=now() - 6), "exp")
    refused(place, token(nbf=now() + 30), "nbf")
    refused(place, token(exp=now() + 86_500), "exp")


@pytest.mark.parametrize(
    "value",
    [
        ...,
        None,
        [],
        {},
        "",
        "sho",
        "shop3",
        "Shop",
        "shop/",
        "shop ",
        " shop",
        "shop,shop2",
        5,
        True,
        ["other"],
        ["shop", 5],
        ["Shop", "shop/"],
        [["shop"]],
        {"shop": 1},
    ],
)
def test_J19_audience(place: Place, value: Any) -> None:
    """J19: exactly one of ours; absent is none."""
    refused(place, token(aud=value), "aud")


@pytest.mark.parametrize("value", ["shop", "shop2", ["a", "b", "c", "d", "shop"]])
def test_J19_audience_that_fits(place: Place, value: Any) -> None:
    """J19: the control."""
    allowed(place, place.get("/private/x", bearer(token(aud=value))), "alice")


@pytest.mark.parametrize(
    "value",
    [
        ["http://issuer.test"],
        "http://issuer.tes",
        "http://issuer.test/",
        "http://issuer.testx",
        "HTTP://ISSUER.TEST",
        "http://issuer.test ",
        "",
        None,
        ...,
        {"a": 1},
    ],
)
def test_J20_issuer(place: Place, value: Any) -> None:
    """J20: exactly one of ours."""
    refused(place, token(iss=value), "iss")


@pytest.mark.parametrize(
    ("issuer", "name", "kid"),
    [
        (minting.ISSUER, "other", "shared"),
        (minting.OTHER_ISSUER, "shared", "shared"),
        (minting.ISSUER, "other2", "other2"),
        (minting.OTHER_ISSUER, "rsa", "rsa"),
    ],
)
def test_J20_one_issuers_claims_by_anothers_key(
    place: Place, issuer: str, name: str, kid: str
) -> None:
    """J20: also where both have a key of that id; keys belong to their issuer."""
    for issuer_, name_ in ((minting.ISSUER, "shared"), (minting.OTHER_ISSUER, "other")):
        good = token(head={"kid": "shared"}, name=name_, iss=issuer_)
        allowed(place, place.get("/private/x", bearer(good)), "alice")
    text = token(head={"kid": kid}, name=name, iss=issuer)
    denied(place, place.get("/private/x", bearer(text)), 401, "signature", "kid")


@pytest.mark.parametrize(
    ("head_", "more"),
    [
        ({"typ": "logout+jwt"}, {}),
        ({"typ": "application/LOGOUT+jwt"}, {}),
        ({"typ": "dpop+jwt"}, {}),
        ({"typ": "secevent+jwt"}, {}),
        ({}, {"token_use": "id"}),
        ({}, {"token_use": "refresh"}),
    ],
)
def test_J21_tokens_for_something_else(
    place: Place, head_: dict[str, Any], more: dict[str, Any]
) -> None:
    """J21: by type and by use."""
    refused(place, token(head=head_, **more), "typ")


def test_J21_the_gateways_own_assertion_is_no_access_token(place: Place) -> None:
    """J21: what upstreams are told doesn't come back as a credential."""
    (assertion,) = place.get("/private/x", bearer(token())).sent.values("x-gateway-assertion")
    refused(place, assertion, "iss")


@pytest.mark.parametrize(
    "text",
    [
        "a.b.c.d.e",
        b64(b'{"alg":"RSA-OAEP","enc":"A128GCM","zip":"DEF"}') + ".a.b.c.d",
        b64(b'{"alg":"PBES2-HS256+A128KW","p2c":1000000000,"enc":"A128GCM"}') + ".a.b.c.d",
        '{"payload":"x","signatures":[]}',
        '{"payload":"x","protected":"e30","signature":"AA"}',
        "a.b",
        "a..c",
        "...",
        "..",
        ".",
        "a",
    ],
)
def test_J22_other_serialisations(place: Place, text: str) -> None:
    """J22: encrypted and JSON forms are read no further than their dots."""
    refused(place, text, "malformed")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cty": "JWT"}, "malformed"),
        ({"cty": "jwt"}, "malformed"),
        ({"zip": "DEF"}, "crit"),
        ({"enc": "A128GCM"}, "crit"),
        ({"alg": "PBES2-HS256+A128KW", "p2c": 10**9}, "alg"),
    ],
)
def test_J22_nested_and_compressed(place: Place, more: dict[str, Any], reason: str) -> None:
    """J22: nothing that changes what a payload is."""
    refused(place, raw(headed(**more), payload()), reason)


def test_J23_sizes(place: Place) -> None:
    """J23: 8 KiB is read, more is refused before it is decoded, a megabyte before it is here."""
    room = 8192 - len(token(pad=""))
    fitting = token(pad="x" * (room * 3 // 4 - 4))
    assert 8100 < len(fitting) <= 8192
    allowed(place, place.get("/private/x", bearer(fitting)), "alice")
    refused(place, token(pad="x" * 8192), "too_large")
    refused(place, b64(b"h" * 16_384) + ".e30.AA", "too_large")
    refused(place, f"{token()}{'A' * 16_384}", "too_large")
    for large in ("a" * (1 << 20), f"e30.e30.{'a' * (1 << 20)}"):
        malformed(place, [request("/private/x", bearer(large))], TOO_LARGE)


def _sloppy() -> dict[str, str]:
    good = token()
    first, middle, last = good.split(".")
    odd = b64(b'{"alg":"RS256","kid":"rsa","x":""}')
    return {
        "padding": good + "=",
        "padding twice": good + "==",
        "dot after": good + ".",
        "dot before": "." + good,
        "two segments": f"{first}.{middle}",
        "four segments": good + ".AA",
        "plus": f"{first}.{middle}.{last[:-4]}+/+/",
        "unused bits": f"{odd[:-1]}{chr(ord(odd[-1]) + 1)}.{middle}.{last}",
        "percent": good.replace(".", "%2e", 1),
        "a rest of one": f"{first}.{middle}.{last}A"
        if len(last) % 4 == 0
        else f"{first}A.e30.AAAAA",
        "latin-1": f"{first}.{middle}\xe9.{last}",
    }


@pytest.mark.parametrize("name", _sloppy())
def test_J24_sloppy_encoding(place: Place, name: str) -> None:
    """J24: one token has one spelling."""
    refused(place, _sloppy()[name], "malformed")


@pytest.mark.parametrize("place_", [0, 20, 400, -1])
@pytest.mark.parametrize("space", [" ", "\t"])
def test_J24_white_space(place: Place, place_: int, space: str) -> None:
    """J24: inside a token there is none; around a header's value it is no part of it."""
    good = token()
    cut = place_ % len(good)
    text = good[:cut] + space + good[cut:]
    refused(place, text, "malformed")


def _strange_payloads() -> dict[str, bytes]:
    text = payload().decode()
    return {
        "list": b"[]",
        "text": b'"str"',
        "number": b"5",
        "null": b"null",
        "empty": b" ",
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "invalid UTF-8": text.replace("alice", "\xff").encode("latin-1"),
        "overlong": text.replace("alice", "\xc0\xaf").encode("latin-1"),
        "lone surrogate": text.replace("alice", "\\ud800").encode(),
        "NUL": text.replace("alice", "a\\u0000b").encode(),
        "deep": b'{"a":' * 1000 + b"1" + b"}" * 1000,
        "deeper": b"[" * 5000 + b"]" * 5000,
        "trailing": text.encode() + b"{}",
        "comment": text.encode() + b"// x",
        "single quotes": text.replace('"', "'").encode(),
        "lone key": b'{"\\ud800":1,' + text.encode()[1:],
    }


@pytest.mark.parametrize("name", _strange_payloads())
def test_J25_strange_payloads(place: Place, name: str) -> None:
    """J25: 401, never 500 and never a broken stream; in the header as well."""
    refused(place, raw(headed(), _strange_payloads()[name]), "malformed", "too_large")
    top = _strange_payloads()[name].replace(b"alice", b"RS256")
    refused(place, raw(top, payload()), "malformed", "too_large", "alg")


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("a\r\nx-user: root", "a%0D%0Ax-user: root"),
        ("a\nb", "a%0Ab"),
        ("a\U0001f600", "a%F0%9F%98%80"),
        ("\u212a", "%E2%84%AA"),
        ("a,b", "a,b"),
        ("a\x7f\x1b[31m", "a%7F%1B[31m"),
        ("\u2028", "%E2%80%A8"),
    ],
)
def test_J26_claims_in_headers(place: Place, subject: str, told: str) -> None:
    """J26: what no header may carry is encoded; the upstream sees one header."""
    seen = place.get("/private/x", bearer(token(sub=subject)))
    assert seen.status == 200
    assert seen.sent.values("x-user") == [told]
    assert place.record(seen)["principal"]["subject"] == subject


@pytest.mark.parametrize("subject", [["a"], {"a": 1}, 5, True, None])
def test_J26_subjects_that_are_no_text(place: Place, subject: Any) -> None:
    """J26: a list or an object is nobody's name."""
    refused(place, token(sub=subject), "sub")


def test_J26_a_long_subject(place: Place) -> None:
    """J26: as long as its token may be it arrives whole; longer is refused before."""
    name = "n" * 5000
    assert place.get("/private/x", bearer(token(sub=name))).sent.values("x-user") == [name]
    refused(place, token(sub="n" * 20_000), "too_large")


def _two() -> dict[str, tuple[tuple[str, str], ...]]:
    one, two = token(), token(sub="bob")
    return {
        "twice the same": (bearer(one), bearer(one)),
        "two": (bearer(one), bearer(two)),
        "other case": (("AUTHORIZATION", f"Bearer {one}"), ("authorization", f"Bearer {two}")),
        "one line": (("Authorization", f"Bearer {one}, Bearer {two}"),),
        "one line, comma alone": (("Authorization", f"Bearer {one},{two}"),),
        "with another scheme": (bearer(one), ("Authorization", "Basic YTpi")),
        "double space": (("Authorization", f"Bearer  {one}"),),
        "tab": (("Authorization", f"Bearer\t{one}"),),
        "no scheme": (("Authorization", one),),
        "scheme alone": (("Authorization", "Bearer"),),
        "empty": (("Authorization", ""),),
    }


@pytest.mark.parametrize("name", _two())
def test_J27_two_tokens(place: Place, name: str) -> None:
    """J27: two are never reconciled, and sloppy ones never read."""
    headers = _two()[name]
    targets = ("/private/x", "/optional/x", "/public/x")
    private, optional, public = [place.get(target, *headers) for target in targets]
    for seen in (private, optional):
        denied(place, seen, 401, "several_credentials", "malformed")
    allowed(place, public)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_J27_the_schemes_case_does_not_matter(place: Place, scheme: str) -> None:
    """J27: RFC 9110 section 11.1; around the value there may be white space.

    Envoy drops an empty value beside another, so that is one token, here and for everyone.
    """
    header_ = ("Authorization", f"{scheme} {token()} \t")
    for headers in ((header_,), (header_, ("Authorization", ""))):
        allowed(place, place.get("/private/x", *headers), "alice")


def test_J27_header_cookie_query_and_key(place: Place) -> None:
    """J27: only the header is looked at; a key beside a token is one credential too many."""
    good = token()
    for target, extra in (
        (f"/private/x?access_token={good}", ()),
        ("/private/x", (("Cookie", f"access_token={good}; token={good}"),)),
        ("/private/x", (("Proxy-Authorization", f"Bearer {good}"),)),
    ):
        denied(place, place.get(target, *extra), 401, "unauthenticated")
    key = ("x-api-key", f"ek_reader.{API_SECRET}")
    denied(place, place.get("/both/x", bearer(good), key), 401, "several_credentials")
    allowed(place, place.get("/both/x", key), "reader")
    denied(place, place.get("/key/x", key, key), 401, "several_credentials")


def _signatures() -> dict[str, str]:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    text = f"{b64(headed(alg='ES256', kid='ec'))}.{b64(payload(jti='j28'))}"
    good = minting.signature(text, "ec", "ES256")
    r, s = good[:32], good[32:]
    zero, one = bytes(32), (1).to_bytes(32, "big")
    n, below = order.to_bytes(32, "big"), (order - 1).to_bytes(32, "big")
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    made = {
        "r and s are 0": zero + zero,
        "r is 0": zero + s,
        "s is 0": r + zero,
        "r and s are n": n + n,
        "r is n": n + s,
        "s is n": r + n,
        "s is n - 1": r + below,
        "one": one + one,
        "too long": b"\x00" + r + b"\x00" + s,
        "one byte more": good + b"\x00",
        "one byte less": good[:-1],
        "r alone": r,
        "DER": der,
        "empty": b"",
    }
    return {name: f"{text}.{b64(signature)}" for name, signature in made.items()}


@pytest.mark.parametrize("name", _signatures())
def test_J28_ecdsa_signatures(place: Place, name: str) -> None:
    """J28: only two numbers of the right size, within their bounds."""
    refused(place, _signatures()[name], "signature", "malformed")


def test_public_routes_stay_clean_beside_a_good_token(place: Place) -> None:
    """Where nothing is looked at, nobody is told apart, whatever is presented."""
    seen = place.get("/public/x", bearer(token()), ("x-api-key", f"ek_reader.{API_SECRET}"))
    clean(seen.sent)
