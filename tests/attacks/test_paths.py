"""P: what is judged is what the upstream gets, however a path is spelt."""

from __future__ import annotations

import random
import re
import socket
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded, StreamReset

from tests.attacks.minting import token
from tests.attacks.place import Place, Seen, allowed, bearer, clean, denied, malformed
from tests.attacks.wire import request

if TYPE_CHECKING:
    from collections.abc import Iterable

BAD_REQUEST = frozenset({400})
# A line end in a request line makes it one of HTTP/0.9, which wants an upgrade.
NO_TARGET = frozenset({400, 426})
# Ways to begin a path that may lead back to the root, and ways to write a word after that.
BEGINNINGS = [
    "/",
    "//",
    "///",
    "/./",
    "/.//",
    "/%2e/",
    "/x/../",
    "/x/%2e%2e/",
    "/x/.%2E/",
    "/public/../",
    "/public/..//",
    "/public//../",
    "/public/%2e%2e/",
    "/public/%2E./",
    "/public/..;/",
    "/public/..;x=1/",
    "/public/%2e%2e;/",
    "/public/%2e.;x/",
    "/public/..%3b/",
    "/public/%2e%2e%3Bx/",
    "/public/.;/../",
    "/public/;/../../",
    "/public/x;/../../",
    "/public/..\\",
    "/public\\..\\",
    "/public/..%5c",
    "/public/..%2f",
    "/public%2f..%2f",
    "/public/%252e%252e/",
    "/public/%252e%252e%252f",
    "/public/..%252f",
    "/public/%c0%ae%c0%ae/",
    "/public/..%c0%af",
    "/public/%u002e%u002e/",
    "/public/..%00/",
    "/public/..%0d/",
    "/public/..%20/",
    "/public/..\t/",
    "/public/...//",
    "/public/..?/",
    "/public/..#/",
    "/public?/../",
    "/public#/../",
    "/;/",
    "/.;/",
    "/*/../",
    "http://tree.test/",
    "http://tree.test/public/../",
]
WORDS = [
    "admin",
    "ADMIN",
    "Admin",
    "%61dmin",
    "%41dmin",
    "admi%6e",
    "%61%64%6d%69%6e",
    "%2561dmin",
    "admin/",
    "admin//",
    "admin/.",
    "admin/./x",
    "admin/x/..",
    "admin.",
    "admin%2e",
    "admin%20",
    "admin%09",
    "admin;x=1",
    "admin%3bx",
    "admin..;/",
    "admin/..;/admin",
    "admin,a=b",
    "admin%3fx=1",
    "admin?x",
    "admin%23",
    "admin%2fx",
    "admin%2Fx",
    "admin%5cx",
    "admin\\x",
    "admin.json",
    "adminx",
]
_PARAMETER = re.compile(rb";[^/]*")


def spellings() -> list[str]:
    """Return every way to write `/admin` that is tried."""
    made = [beginning + word for beginning, word in product(BEGINNINGS, WORDS)]
    for byte in range(1, 256):
        for written in (f"%{byte:02x}", chr(byte)):
            made += [f"/admin{written}", f"/{written}admin", f"/ad{written}min"]
            made += [f"/public/..{written}/admin", f"/public/{written}../admin"]
    return made


def read_leniently(path: str) -> set[bytes]:
    """Return what upstreams may take a path for: decoded once, without parameters, resolved."""
    raw = path.partition("?")[0].encode("latin-1")
    found = set()
    for text in (raw, _PARAMETER.sub(b"", raw)):
        once = unquote_to_bytes(text)
        for form in (once, _PARAMETER.sub(b"", once)):
            found.add(_resolved(form.replace(b"\\", b"/").lower()))
    return found


def _resolved(path: bytes) -> bytes:
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            segments = segments[:-1]
        elif segment not in {b"", b"."}:
            segments.append(segment)
    return b"/" + b"/".join(segments)


def is_admin(path: str) -> bool:
    """Say whether an upstream could take a path for `/admin` or what lies below it."""
    return any(form == b"/admin" or form.startswith(b"/admin/") for form in read_leniently(path))


def test_the_lenient_reading_can_fail() -> None:
    """The measure of the tests below."""
    for path in ("/admin", "/ADMIN/x", "/public/..;/admin", "/public/..%3b/admin", "/;/admin"):
        assert is_admin(path), path
    for path in ("/public/admin", "/adminx", "/public/%252e%252e/admin", "/public/;/admin"):
        assert not is_admin(path), path


def judged(place: Place, host: str, targets: Iterable[str]) -> list[Seen]:
    """Send each; expect that what was judged is what the upstream got; return those allowed."""
    credential = bearer(token())
    all_seen = [(t, place.get(t, credential, host=host)) for t in targets]
    for target, seen in all_seen:
        assert seen.status in {200, 401, 403, 404} | NO_TARGET, (target, seen)
        assert (seen.status == 200) == bool(seen.received), (target, seen)
    passed = [seen for _, seen in all_seen if seen.received]
    for seen, record in zip(passed, place.each_record(passed), strict=True):
        assert record["decision"] == "allow"
        assert record["path"] == seen.sent.path.partition("?")[0][:512], record
    refused = [seen for _, seen in all_seen if seen.status in {401, 403}]
    for record in place.each_record(refused):
        assert record["decision"] == "deny"
    return passed


@pytest.mark.parametrize("host", ["tree.test", "list.test"])
def test_P1_every_spelling(place: Place, host: str) -> None:
    """P1: the path that was judged is the one the upstream got, and never one like `/admin`."""
    passed = judged(place, host, spellings())
    assert len(passed) > 20
    for seen in passed:
        assert seen.sent.path.startswith("/public/"), seen
        assert not is_admin(seen.sent.path), seen
        clean(seen.sent, "alice")


def test_P1_every_spelling_where_nothing_is_judged(place: Place) -> None:
    """P1: on a public host paths are as free, and identity as clean."""
    for seen in judged(place, "open.test", spellings()[::3]):
        clean(seen.sent)


@pytest.mark.parametrize("target", ["//admin", "///admin", "/public/..//admin", "//admin//"])
def test_P2_doubled_slashes(place: Place, target: str) -> None:
    """P2: merged before anything is judged."""
    record = denied(place, place.get(target, bearer(token()), host="tree.test"), 403, "admin_area")
    assert record["path"].rstrip("/") == "/admin"
    denied(place, place.get(target, host="tree.test"), 401, "admin_area")


def test_P2_dots_are_resolved_before_slashes_are_merged(place: Place) -> None:
    """P2: so this is no way up, neither for the policy nor for the upstream."""
    seen = place.get("/public//../admin", bearer(token()), host="tree.test")
    assert allowed(place, seen, "alice")["path"] == seen.sent.path == "/public/admin"


@pytest.mark.parametrize("host", ["tree.test", "open.test", "shop.test"])
def test_P3_escaped_slashes(place: Place, host: str) -> None:
    """P3: refused, in either case of the hexadecimal digits; a raw backslash is a slash."""
    targets = ["/admin%2fx", "/admin%2Fx", "/admin%5cx", "/admin%5Cx", "/public/..%2f..%5Cadmin"]
    malformed(place, [request(target, host=host) for target in targets], BAD_REQUEST)
    seen = place.get("/public\\..\\admin", bearer(token()), host="tree.test")
    denied(place, seen, 403, "admin_area")


@pytest.mark.parametrize(
    "target",
    [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2e/admin",
        "/public/%2E./admin",
        "/./admin",
        "/admin/.",
        "/admin/x/..",
        "/%2e/admin",
        "/public/./../admin",
    ],
)
def test_P4_dot_segments(place: Place, target: str) -> None:
    """P4: resolved before anything is judged."""
    record = denied(place, place.get(target, bearer(token()), host="tree.test"), 403, "admin_area")
    assert record["path"].rstrip("/") == "/admin"


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/public/..;/admin", 403, "admin_area"),
        ("/public/..;x=1/admin", 403, "admin_area"),
        ("/public/%2e%2e;/admin", 400, "malformed"),
        ("/public/..%3b/admin", 400, "malformed"),
        ("/public/..%3Bx/admin", 400, "malformed"),
        ("/admin;x=1", 403, "admin_area"),
        ("/;/admin", 403, "no_rule_allows"),
        ("/admin,a=b", 403, "admin_area"),
        ("/admin/%2e%2e;/public/x", 400, "malformed"),
    ],
)
def test_P5_path_parameters(place: Place, target: str, status: int, reason: str) -> None:
    """P5: a dot segment with a parameter is refused; otherwise `;` is a character like others."""
    denied(place, place.get(target, bearer(token()), host="tree.test"), status, reason)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/admin", 401),
        ("/admin/", 401),
        ("/admin/x", 401),
        ("/admin//", 401),
        ("/%61dmin", 401),
        ("/Admin", 200),
        ("/ADMIN", 200),
        ("/admin.", 200),
        ("/admin%20", 200),
        ("/admin%09", 200),
        ("/adminx", 200),
        ("/admin;x=1", 200),
    ],
)
def test_P6_what_a_route_covers(place: Place, target: str, status: int) -> None:
    """P6: `/admin` and `/admin/*` are those segments exactly; `/*` has the rest, public here."""
    seen = place.get(target, host="area.test")
    if status == 200:
        allowed(place, seen)
        return
    denied(place, seen, status, "unauthenticated")


@pytest.mark.parametrize("target", ["/Admin", "/ADMIN", "/admin/", "/admin.", "/admin%20"])
def test_P6_a_list_of_what_is_allowed(place: Place, target: str) -> None:
    """P6: with an allow-list no other spelling matters."""
    seen = place.get(target, bearer(token()), host="list.test")
    denied(place, seen, 403, "no_rule_allows")


@pytest.mark.parametrize("host", ["tree.test", "open.test", "shop.test"])
def test_P7_fragments(place: Place, host: str) -> None:
    """P7: no request has one."""
    targets = ["/public/x#/../admin", "/public#/../admin", "/admin#x", "/public/x#", "/#"]
    malformed(place, [request(target, host=host) for target in targets], BAD_REQUEST)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/public/x?/../admin", "/public/x"),
        ("/public/x?x=/admin", "/public/x"),
        ("/public/x%3f/y", "/public/x%3f/y"),
        ("/public/%3Fx=1", "/public/%3Fx=1"),
        ("/public/x??", "/public/x"),
    ],
)
def test_P8_queries(place: Place, target: str, path: str) -> None:
    """P8: judged without its query, which the upstream gets as sent; `%3f` is no query."""
    seen = place.get(target, bearer(token()), host="tree.test")
    assert allowed(place, seen, "alice")["path"] == path
    assert seen.sent.path == target
    for denied_target in ("/admin?x", "/admin%3fx=1", "/public?/../admin"):
        seen = place.get(denied_target, bearer(token()), host="tree.test")
        denied(place, seen, 403, "admin_area", "no_rule_allows")


def test_P9_control_bytes_and_double_decoding(place: Place) -> None:
    """P9: raw ones are refused, escaped ones stay as they are, in the record and upstream."""
    raw = [f"/public/a{chr(byte)}b" for byte in (0, 1, 9, 10, 13, 27, 127, 128, 192, 255)]
    malformed(place, [request(target, host="tree.test") for target in raw], NO_TARGET)
    malformed(place, [request("/public/%00", host="tree.test")], BAD_REQUEST)
    literal = ["%0a", "%0d%0a", "%7f", "%ff", "%c0%af", "%252e%252e", "%u002f", "%e2%80%a8", "%1b"]
    for target in (f"/public/{text}x" for text in literal):
        seen = place.get(target, bearer(token()), host="tree.test")
        assert allowed(place, seen, "alice")["path"] == target
        assert seen.sent.path == target
    seen = place.send(request("/public/" + "a" * (64 << 10), host="tree.test"))
    assert seen.status in {400, 414, 431}
    assert not seen.received


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        ("GET http://tree.test/admin HTTP/1.1", {401}),
        ("GET http://tree.test/public/../admin HTTP/1.1", {401}),
        ("GET HTTP://TREE.TEST/admin HTTP/1.1", {401}),
        ("GET http://evil.test/admin HTTP/1.1", {404}),
        ("GET http://user@tree.test/admin HTTP/1.1", {400, 401, 404}),
        ("GET https://tree.test/admin HTTP/1.1", {400, 401, 404}),
        ("GET tree.test/admin HTTP/1.1", {400}),
        ("GET admin HTTP/1.1", {400}),
        ("GET * HTTP/1.1", {400}),
        ("OPTIONS * HTTP/1.1", {400, 404, 405}),
        ("GET  HTTP/1.1", {400}),
        ("GET ?x HTTP/1.1", {400}),
        ("GET http:///admin HTTP/1.1", {400, 404}),
        ("CONNECT tree.test:80 HTTP/1.1", {400, 404, 405}),
    ],
)
def test_P10_forms_of_a_target(place: Place, line: str, statuses: set[int]) -> None:
    """P10: an absolute target has its own host, whatever Host says; the rest is no target."""
    seen = place.send(
        f"{line}\r\nHost: open.test\r\n\r\n".encode(), method=line.split(" ", maxsplit=1)[0]
    )
    assert seen.status in statuses, seen
    assert not seen.received, seen


@pytest.mark.parametrize("path", ["admin", "", "*", "public/x", "//admin", "?x", "\\admin", None])
def test_P10_http2_paths(place: Place, path: str | None) -> None:
    """P10: HTTP/2 lets a client write any `:path`."""
    before = len(place.upstream.received)
    status = over_http2(place.port, "tree.test", path)
    assert status in {0, 400, 401, 404}, status
    assert len(place.upstream.received) == before


def over_http2(port: int, host: str, path: str | None) -> int:
    """Ask over HTTP/2 without any check of our own; 0 for a stream that was reset."""
    config = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(config)
    connection.initiate_connection()
    headers = [(":method", "GET"), (":scheme", "http"), (":authority", host)]
    headers += [(":path", path)] if path is not None else []
    connection.send_headers(1, headers, end_stream=True)
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(connection.data_to_send())
        status = 0
        while data := peer.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived):
                    status = int(dict(event.headers or [])[b":status"])
                if isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                    return status
            peer.sendall(connection.data_to_send())
    return status


def test_the_http2_client_works(place: Place) -> None:
    """The control of the test above."""
    assert over_http2(place.port, "open.test", "/x") == 200


STEERING = [
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-URI",
    "X-Forwarded-Uri",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Forwarded-Host",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "X-HTTP-Path-Override",
]


@pytest.mark.parametrize("name", STEERING)
def test_P11_headers_that_steer(place: Place, name: str) -> None:
    """P11: no header changes what is judged."""
    for value in ("/public/x", "tree.test/public/x"):
        headers = (bearer(token()), (name, value))
        denied(place, place.get("/admin", *headers, host="tree.test"), 403, "admin_area")
        seen = place.get("/public/x", bearer(token()), (name, "/admin"), host="tree.test")
        assert allowed(place, seen, "alice")["path"] == "/public/x"
        assert seen.sent.path == "/public/x"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/things/7", "/public/7"),
        ("/things/a%3fb", "/public/a%3Fb"),
        ("/things/a;b", "/public/a%3Bb"),
        ("/things/a%23b", "/public/a%23b"),
        ("/things/%257e", "/public/%257e"),
        ("/things/{id}", "/public/%7Bid%7D"),
        ("/things/*", "/public/%2A"),
        ("/things/a%25%32fb", "/public/a%252fb"),
        ("/things/7?x=/../admin", "/public/7?x=/../admin"),
    ],
)
def test_P12_rewritten_paths(place: Place, target: str, path: str) -> None:
    """P12: the policy sees the client's path, the upstream the new one; a hole is one segment."""
    seen = place.get(target, host="rewrite.test")
    record = allowed(place, seen)
    assert record["path"].startswith("/things/")
    assert seen.sent.path == path


@pytest.mark.parametrize("target", ["/things/..;", "/things/.;x", "/things/..%3b", "/things/%ff"])
def test_P12_rewritten_paths_that_lead_elsewhere(place: Place, target: str) -> None:
    """P12: no segment leads up or can't be read."""
    seen = place.get(target, host="rewrite.test")
    assert seen.status in {400, 404}, seen
    assert not seen.received


def test_P13_a_new_path_takes_no_new_route(place: Place) -> None:
    """P13: the route is chosen once; a rewrite changes what the upstream gets, not who may."""
    seen = place.get("/gone?to=private")
    assert allowed(place, seen)["route"] == "gone"
    assert seen.sent.path.startswith("/private")
    denied(place, place.get("/private/x"), 401, "unauthenticated")
    for target in ("/gone", "/gone?to=", "/gone?to=..", "/gone?to=a&to=b"):
        seen = place.get(target)
        assert (seen.status, seen.received) == (400, ()), seen


@pytest.mark.parametrize("target", ["/private/*", "/private/{id}", "/private/**", "/pri*/x"])
def test_P14_wildcards_in_a_request(place: Place, target: str) -> None:
    """P14: in a request they are characters."""
    seen = place.get(target)
    assert seen.status in {401, 404}
    assert not seen.received
    for path in ("/*", "/{id}", "/*/admin", "/public*"):
        denied(place, place.get(path, host="tree.test"), 401, "no_rule_allows")


PIECES = [
    "/",
    "//",
    ".",
    "..",
    ";",
    "%2e",
    "%2f",
    "%5c",
    "\\",
    "%3b",
    "%23",
    "#",
    "?",
    "%3f",
    "*",
    "~",
    "%20",
    "%09",
    "%0a",
    "%00",
    "%ff",
    "%c0%ae",
    "%252e",
    "&",
    "@",
    ":",
    "|",
    "..;",
    "%2e%2e;",
    "admin",
    "public",
    "x",
]


@pytest.mark.parametrize("host", ["tree.test", "list.test"])
def test_P15_fuzzed_paths(place: Place, host: str) -> None:
    """P15: pieces of known ways around, put together at random; none shows `/admin` upstream."""
    draw = random.Random(15)  # noqa: S311 - paths
    targets = []
    for _ in range(1000):
        around = [draw.choices(PIECES, k=draw.randrange(4)) for _ in range(3)]
        before, between, after = ("".join(pieces) for pieces in around)
        start = draw.choice(["/", "/public/", "/public"])
        targets.append(f"{start}{before}{draw.choice(['/', ''])}{between}admin{after}")
    for seen in judged(place, host, targets):
        assert not is_admin(seen.sent.path), seen
