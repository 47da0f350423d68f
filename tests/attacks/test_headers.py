"""H: headers, hosts, methods, trailers and cookies."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from tests.attacks.conftest import API_SECRET
from tests.attacks.minting import token
from tests.attacks.place import (
    ASSERTION,
    IDENTITY,
    Place,
    allowed,
    bearer,
    clean,
    denied,
    malformed,
)
from tests.attacks.wire import request

BAD_REQUEST = frozenset({400})
NO_MATCH = frozenset({400, 404, 405})
TOO_LARGE = frozenset({431})
GOOD_KEY = ("x-api-key", f"ek_reader.{API_SECRET}")


@pytest.mark.parametrize("name", [*IDENTITY, ASSERTION])
@pytest.mark.parametrize("spelt", [str.lower, str.upper, str.title])
def test_H1_clients_can_not_say_who_they_are(place: Place, name: str, spelt: Any) -> None:
    """H1: on protected, key, optional and public routes, once and twice."""
    forged = ((spelt(name), "root"), (spelt(name), "admin"))
    for target, credential, user in (
        ("/private/x", (bearer(token()),), "alice"),
        ("/key/x", (GOOD_KEY,), "reader"),
        ("/optional/x", (), None),
        ("/public/x", (), None),
        ("/gone?to=x", (), None),
    ):
        seen = place.get(target, *credential, *forged)
        allowed(place, seen, user)
        assert "root" not in dict(seen.sent.headers).values()
    # Errors and refused upgrades don't tell the client either.
    upgrade = (("Connection", "upgrade"), ("Upgrade", "websocket"))
    for target, more in (("/nowhere", ()), ("/private/x", ()), ("/public/x", upgrade)):
        seen = place.get(target, *forged, *more)
        assert seen.status in {400, 401, 404}
        assert not seen.received
        assert seen.answer.header(name) is None


def test_H2_names_that_are_refused(place: Place) -> None:
    """H2: other spellings of the same header for some upstreams."""
    names = ["X_User", "x_user", "X-User_", "X-User ", "X-User\t", "x-us\xe9r", "\xd8-user"]
    for target in ("/public/x", "/private/x"):
        datas = [request(target, bearer(token()), (name, "root")) for name in names]
        malformed(place, datas, BAD_REQUEST)


@pytest.mark.parametrize("mark", list(".~!$%&'*+^`|"))
def test_H2_names_that_are_dropped(place: Place, mark: str) -> None:
    """H2: legal names that an upstream may take for ours (CGI writes them all as `_`)."""
    forged = [(f"X{mark}User", "root"), (f"x{mark}gateway-assertion", "root")]
    for target, headers, user in (
        ("/public/x", forged, None),
        ("/private/x", [bearer(token()), *forged], "alice"),
    ):
        seen = place.get(target, *headers)
        allowed(place, seen, user)
        assert not [value for _, value in seen.sent.headers if value == "root"], seen


@pytest.mark.parametrize("order", [*permutations(["user", "admin", "other"])])
def test_H3_a_header_sent_several_times(place: Place, order: tuple[str, ...]) -> None:
    """H3: the policy sees every value, in lines or in one."""
    credential = bearer(token())
    lines = tuple(("X-Role", value) for value in order)
    denied(place, place.get("/roles/x", credential, *lines), 403, "role_admin")
    for joined in (",".join(order), ", ".join(order)):
        denied(place, place.get("/roles/x", credential, ("x-role", joined)), 403, "role_admin")
    mixed = (("X-ROLE", order[0]), ("x-role", f"{order[1]},{order[2]}"))
    denied(place, place.get("/roles/x", credential, *mixed), 403, "role_admin")
    good = tuple(("x-role", value) for value in order if value != "admin")
    allowed(place, place.get("/roles/x", credential, *good), "alice")


def test_H4_hop_by_hop_names(place: Place) -> None:
    """H4: a client takes no identity away; its own credential it may, and is nobody then."""
    good = bearer(token())
    for named in ("x-user", "x-user, close", f"X-User, {ASSERTION}, x-scopes, x-kind"):
        allowed(place, place.get("/private/x", good, ("Connection", named)), "alice")
    seen = place.get("/private/x", good, ("Connection", "x-user, authorization"))
    assert seen.status in {200, 401}
    if seen.received:
        clean(seen.sent, "alice")


def test_H5_H6_one_identity_with_the_value_that_was_meant(place: Place) -> None:
    """H5, H6: exactly one of each, in bytes as meant, also an empty one and beside the client's."""
    for subject, told in (("alice", ["alice"]), ("a b", ["a b"]), ("\xe9", ["%C3%A9"])):
        seen = place.get("/private/x", bearer(token(sub=subject)), ("x-user", "root"))
        assert seen.sent.values("x-user") == told
        assert seen.sent.values("x-kind") == ["jwt"]
    seen = place.get("/private/x", bearer(token(sub=..., scope="")), ("x-user", "root"))
    assert seen.status == 200
    assert seen.sent.values("x-user") in ([], [""])
    assert seen.sent.values("x-scopes") in ([], [""])


def test_H7_bytes_that_no_header_may_hold(place: Place) -> None:
    """H7: refused, and recorded."""
    values = ["a\x00b", "a\x01b", "a\x0bb", "a\x1bb", "a\x7fb"]
    names = [":x-user", "", "x user", "x-user\x00", ":path", ":authority"]
    for target in ("/public/x", "/private/x"):
        datas = [request(target, bearer(token()), ("X-A", value)) for value in values]
        datas += [request(target, bearer(token()), (name, "root")) for name in names]
        malformed(place, datas, BAD_REQUEST)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\x80b", "a\x80b"),
        ("a\xffb", "a\xffb"),
        ("\xc3\xa9", "\xc3\xa9"),
        ("\xc0\xaf", "\xc0\xaf"),
        ("a\r\n b", "a b"),
        ("a\r\n\tb", "a b"),
        ("a\rb", "ab"),
    ],
)
def test_H7_bytes_that_are_judged_as_they_are(place: Place, value: str, told: str) -> None:
    """H7: bytes over 0x7f and folded lines are one value for policy and upstream, and recorded."""
    for target, headers, user in (
        ("/public/x", (), None),
        ("/private/x", (bearer(token()),), "alice"),
    ):
        seen = place.get(target, *headers, ("X-Role", value), ("x-user", value))
        allowed(place, seen, user)
        (got,) = seen.sent.values("x-role")
        assert " ".join(got.split()) == told
    folded = place.get("/private/x", bearer(token()), (" x-user", "root"))
    denied(place, folded, 401, "malformed")
    for hidden in ("admin\r\n ", "user,\r\n admin", "admin\r"):
        seen = place.get("/roles/x", bearer(token()), ("X-Role", hidden))
        denied(place, seen, 403, "role_admin")


def test_H8_heads_that_are_too_large(place: Place) -> None:
    """H8: too many headers, too long ones, and cookies in crumbs."""
    many = [(f"x-{number}", "y") for number in range(1000)]
    long = [("x-long", "y" * (61 << 10))]
    crumbs = [("Cookie", f"a{number}=b") for number in range(4000)]
    for target in ("/public/x", "/private/x"):
        datas = [request(target, bearer(token()), *headers) for headers in (many, long, crumbs)]
        malformed(place, datas, TOO_LARGE)
    allowed(place, place.get("/public/x", *many[:80]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "203.0.113.9, 127.0.0.1"),
        ("Forwarded", "for=203.0.113.9"),
        ("X-Real-IP", "203.0.113.9"),
        ("True-Client-IP", "203.0.113.9"),
        ("X-Client-IP", "203.0.113.9"),
        ("X-Envoy-External-Address", "203.0.113.9"),
        ("X-Forwarded-For", "fe80::1%25eth0"),
        ("Forwarded", 'for="[fe80::1%25eth0]"'),
    ],
)
def test_H9_addresses_that_clients_claim(place: Place, name: str, value: str) -> None:
    """H9: without trusted proxies the address is the connection's."""
    seen = place.get("/office/x", bearer(token()), (name, value))
    assert denied(place, seen, 403, "no_rule_allows")["inputs"]["request.address"] == "127.0.0.1"


def test_H9_client_certificates_that_clients_claim(place: Place) -> None:
    """H9: the header by which proxies hand on a certificate is nobody's."""
    seen = place.get("/public/x", ("X-Forwarded-Client-Cert", "By=spiffe://x;Subject=root"))
    allowed(place, seen)
    assert not seen.sent.values("x-forwarded-client-cert")


OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]


@pytest.mark.parametrize("name", OVERRIDES)
def test_H10_other_methods_by_header(place: Place, name: str) -> None:
    """H10: the policy judges the real method, and the upstream sees no other."""
    seen = place.get("/readonly/x?_method=DELETE", bearer(token()), (name, "DELETE"))
    allowed(place, seen, "alice")
    assert seen.sent.method == "GET"
    assert not seen.sent.values(name.lower())
    for method in ("POST", "DELETE"):
        seen = place.get("/readonly/x?_method=GET", bearer(token()), (name, "GET"), method=method)
        denied(place, seen, 403, "no_rule_allows")


@pytest.mark.parametrize("target", ["/private/x", "/public/x", "/anymethod/x"])
def test_H11_what_is_no_method(place: Place, target: str) -> None:
    """H11: names are exact and in capitals; anything else is refused, also where all are taken."""
    methods = ("get", "Get", "G" * 4096, "G\x00T", "GET,POST", "GE T", "M_SEARCH", "")
    malformed(place, [request(target, bearer(token()), method=m) for m in methods], BAD_REQUEST)


@pytest.mark.parametrize("method", ["FOO", "M-SEARCH", "PRI"])
def test_H11_unknown_methods(place: Place, method: str) -> None:
    """H11: denied by default; where a route takes any, the policy judges them."""
    for target in ("/private/x", "/public/x"):
        malformed(place, [request(target, bearer(token()), method=method)], frozenset({400, 405}))
    if method != "PRI":
        seen = place.get("/anymethod/x", bearer(token()), method=method)
        denied(place, seen, 403, "no_rule_allows")


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PROPFIND", "CONNECT", "MKCOL", "LINK"])
def test_H11_methods_that_no_route_names(place: Place, method: str) -> None:
    """H11: refused by default; where a route takes any, the policy judges the real one."""
    for target in ("/private/x", "/public/x"):
        seen = place.get(target, bearer(token()), method=method)
        assert seen.status in {400, 405}, seen
        assert not seen.received
    seen = place.get("/anymethod/x", bearer(token()), method=method)
    assert seen.status in {400, 403}, seen
    assert not seen.received


def test_H11_white_space_after_the_method(place: Place) -> None:
    """H11: Envoy takes it for the gap; policy and upstream see the method."""
    seen = place.get("/anymethod/x", bearer(token()), method="GET\t")
    if seen.received:
        assert allowed(place, seen, "alice")["method"] == seen.sent.method == "GET"
    else:
        assert seen.status == 400


@pytest.mark.parametrize("headers", [(), (("Origin", "http://evil.test"),)])
@pytest.mark.parametrize("asked", [(), (("Access-Control-Request-Method", "GET"),)])
def test_H12_preflights(place: Place, headers: Any, asked: Any) -> None:
    """H12: a preflight is a request like others: no way to the upstream, and no data."""
    for target, statuses in (("/private/x", {405}), ("/anymethod/x", {401})):
        seen = place.get(target, *headers, *asked, method="OPTIONS")
        assert seen.status in statuses
        assert not seen.received
        assert seen.answer.header("access-control-allow-origin") is None
    seen = place.get("/anymethod/x", bearer(token()), *headers, *asked, method="OPTIONS")
    denied(place, seen, 403, "no_rule_allows")


@pytest.mark.parametrize(
    "host", ["HOST.TEST", "host.test:80", "host.test:443", "host.test.", "Host.Test.:80"]
)
def test_H13_one_canonical_host(place: Place, host: str) -> None:
    """H13: case, port and a trailing dot don't matter, for the route as for the policy."""
    seen = place.get("/x", bearer(token()), host=host)
    assert allowed(place, seen, "alice")["host"] == "host.test"


def test_H13_hosts_that_are_not_one_name(place: Place) -> None:
    """H13: two hosts, user info, other notations: no route, or no host at all."""
    hosts = [
        "user@host.test",
        "host.test@evil.test",
        "host.test,evil.test",
        "evil.test,host.test",
        "xn--host.test",
        ".host.test",
        "host..test",
        "host.test:",
        "host.test:x",
        "0177.0.0.1",
        "0x7f.1",
        "[::1]",
        "[fe80::1%25eth0]",
        "host.test\x00",
        "host.test/x",
        "host.test#x",
        "host.test evil",
        "h\xf6st.test",
    ]
    datas = [request("/x", bearer(token()), ("Host", host), host="") for host in hosts]
    two = [("Host", "host.test"), ("Host", "evil.test")]
    datas += [request("/x", bearer(token()), *order, host="") for order in permutations(two)]
    datas += [request("/x", bearer(token()), host="")]
    malformed(place, datas, NO_MATCH)


def test_H13_an_absolute_target_has_its_own_host(place: Place) -> None:
    """H13: the host that is routed is the one that is judged and sent."""
    seen = place.get("http://host.test/x", bearer(token()), host="open.test")
    assert allowed(place, seen, "alice")["host"] == "host.test"
    assert seen.sent.values("host") == ["host.test"]
    seen = place.get("http://open.test/x", bearer(token()), host="host.test")
    assert allowed(place, seen)["route"] == "open"
    assert seen.sent.values("host") == ["open.test"]


CONTROL = [
    "x-middleware-subrequest",
    "x-envoy-internal",
    "x-envoy-auth-partial-body",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-attempt-count",
    "x-envoy-retry-on",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-decorator-operation",
    "x-envoy-anything",
    "x-gateway-partial",
    ASSERTION,
]


@pytest.mark.parametrize("name", CONTROL)
def test_H14_control_headers(place: Place, name: str) -> None:
    """H14: what parts of a gateway tell each other comes from no client."""
    for target, headers, user in (
        ("/public/x", (), None),
        ("/private/x", (bearer(token()),), "alice"),
    ):
        seen = place.get(target, *headers, (name, "forged"))
        allowed(place, seen, user)
        assert "forged" not in dict(seen.sent.headers).values(), seen


@pytest.mark.parametrize("agent", ["kube-probe/1.30", "ELB-HealthChecker/2.0", "GoogleHC/1.0"])
def test_H15_health_probes_skip_nothing(place: Place, agent: str) -> None:
    """H15: neither by their name nor by their path."""
    headers = (("User-Agent", agent), ("X-Envoy-HC", "1"))
    denied(place, place.get("/private/x", *headers), 401, "unauthenticated")
    for path in ("/private/healthz", "/private/ready", "/private/health/../x", "/private/ping"):
        denied(place, place.get(path, *headers), 401, "unauthenticated")
    for path in ("/healthz", "/readyz", "/metrics", "/status", "/ready", "/livez"):
        seen = place.get(path, *headers)
        assert (seen.status, seen.received) == (404, ())


@pytest.mark.parametrize("name", [*IDENTITY, ASSERTION, "cache-control", "authorization"])
def test_H17_request_trailers(place: Place, name: str) -> None:
    """H17: dropped."""
    body = f"1\r\na\r\n0\r\n{name}: root\r\n\r\n".encode()
    headers = (("Transfer-Encoding", "chunked"), ("TE", "trailers"), ("Trailer", name))
    for target, credential, user in (
        ("/public/x", (), None),
        ("/private/x", (bearer(token()),), "alice"),
    ):
        seen = place.send(request(target, *credential, *headers, method="POST") + body)
        allowed(place, seen, user)
        assert place.upstream.received[-1].body == b"a"


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "chief@x@corp.com"},
        {"email": "chief@corp.com."},
        {"email": "Chief@corp.com"},
        {"email": "chief@CORP.com"},
        {"email": "chief@\u212aorp.com"},
        {"email": "chief@corp.com\u200b"},
        {"email": ["chief@corp.com"]},
        {"groups": [""]},
        {"groups": []},
        {"groups": ["Staff"]},
        {"groups": ["\u017ftaff"]},
        {"groups": ["staff."]},
        {"groups": ["staff "]},
        {"groups": "staff"},
        {"groups": "nostaff"},
        {"groups": {"a": "staff"}},
        {"groups": [["staff"]]},
    ],
)
def test_H18_claims_that_are_nearly_right(place: Place, claims: dict[str, Any]) -> None:
    """H18: text is compared by its characters, and a list by its elements."""
    seen = place.get("/staff/x", bearer(token(**claims)))
    denied(place, seen, 403, "no_rule_allows")
    for good in ({"email": "chief@corp.com"}, {"groups": ["x", "staff"]}):
        allowed(place, place.get("/staff/x", bearer(token(**good))), "alice")


@pytest.mark.parametrize(
    "cookie",
    [
        "access_token={t}",
        "access_token={t}; access_token=x",
        'access_token="{t}"',
        "__Host-access_token={t}",
        "authorization=Bearer {t}",
        "x-user=root; x-user=admin",
    ],
)
def test_H19_cookies_are_no_credentials(place: Place, cookie: str) -> None:
    """H19: where no authenticator looks at one, a cookie is nobody's name."""
    header = ("Cookie", cookie.replace("{t}", token()))
    denied(place, place.get("/private/x", header), 401, "unauthenticated")
    allowed(place, place.get("/optional/x", header))
    allowed(place, place.get("/public/x", header, header))


def test_a_body_of_any_kind_waits_for_a_credential(place: Place) -> None:
    """Whatever a body is called, a route that shapes it answers 401 first."""
    for kind in ("text/plain", "Application/JSON", "application/json;charset=utf-16", ""):
        body = json.dumps({"n": 1}).encode()
        seen = place.get("/bodies/x", ("Content-Type", kind), method="POST", body=body)
        denied(place, seen, 401, "unauthenticated")
