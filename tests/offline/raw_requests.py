"""Raw requests that are read in many ways: paths, hosts, header fields, framing.

Each has a name and bytes. The ids in comments (P1, H13, ...) are those of the attack checklist that
the project follows.
"""

from __future__ import annotations

_END = "\r\nHost: zz\r\n\r\n"


def _latin(text: str) -> bytes:
    return text.encode("latin-1")


def _words(text: str) -> list[str]:
    return text.split()


# P1-P9: every way to spell a path.
PATHS = _words("""
/public/a //admin ///admin /public//../admin /admin%2fx /admin%2Fx /admin%5cx /admin%5Cx
/admin\\x /public\\..\\admin /public/../admin /public/%2e%2e/admin /public/.%2e/admin /./admin
/admin/. /admin/.. /.. /../.. /public/..;/admin /admin;x=1 /;/admin /admin,a=b /Admin /admin/
/admin. /admin%20 /admin%09 /public#/../admin /admin#x /admin?a#x /admin%23x /admin%3fx=1
/admin?x /public?/../admin /public?//..//%2f /public/x?a=%2e%2e /admin%00 /a?%00 /admin%0a
/admin%0d%0a /admin%7f /admin%80 /admin%c0%af /%252e%252e/admin /admin%u002f /admin%zz /admin%
/admin%2 /%61dmin /%41dmin /a%7Eb /a%7eb /a~b /a!b /a%21b /a'b /a"b /a<b>c /a{b}c /a|b /a^b /a`b
/a[b]c /a*b /a:b@c /a%2Db%5Fc%2E /a%2E%2E/b /%2e /%2e%2e /a/%2e/b /a/%2e%2e%2fb /a%252fb
/a/b/../../../c /a//b///c /a/./b/./ /a/b/.. /a/... /a/.../b /a/..b /a/..;x/b /a/.;/b
/a/%2e%2e;/b /..;a/b /a;/../b /a/..%3b/b /a/..%3B/b /a/.%2e;q=1/b /a/..; /a/.; /a/..;/ /a/...;/b
/a/.;.;/b /a/b;c/../d //..;//b /a/..;%2fb /a/.%00/b /a?b;c /a// /a/%2e /a/%2e%2e /% /a%2G
/a%c3%bc /a%C3%BC /a%3B.. /a$&+,=:@b /a(b) /a%24%26 /a%28 /a%5bb /a%7b /%e2%82%ac /.%2e/%2e./x
/a/.../../b /a;b/..;/c /a/;/../b /a/..;;/b /.;/admin /%2e;/admin /a\\..;\\b /a\\.;x/b
/a;x\\..\\b /\\\\evil/x /a/..;x\\b /a/;..;/b /a/..\\;/b /..;/..;/x /a/.;?x
""")
# P10, H13: the forms of a target.
TARGETS = _words("""
http://evil/admin http://evil http://evil?x=1 https://evil/admin HTTP://evil/admin ftp://evil/admin
http://u:p@evil/admin http:///x http://evil:80#f http://evil/a/../b http://evil//x http://evil\\x
http:// http://evil/?x http://evil#x http://evil:/x http://evil.:80/x http://EVIL/x http://a@b@c/x
http://shop.example.com/x http:/x http:x http://[::1]:80/x http://evil:abc/x ws://evil/x http://shop/x
* admin ?x
""")
HOSTS = [
    *("shop", "SHOP", "shop:443", "shop:80", "shop.", "shop.:80", "shop..", "SHOP.:8", "a, b"),
    *("u@shop", "xn--bcher-kva.example", "0177.0.0.1", "[::1]", "[::1]:80", "[::1", "", "shop:"),
    *("shop:abc", "shop:99999999", "shop:4294967296", "sh op", "sh_op", "shop/x", "shop?x"),
    *("shop#x", "shop%41", "b\xc3\xbccher", "a..b", "-a", "~x", "shop\\x", "*.x", "shop:80:80"),
    *("a!b", "a'b", "a;b", "a*b", "::1", "shop:-1", "a.example.com", "A.EXAMPLE.COM:8"),
    *("example.com", ".example.com", "a.b.example.com", "a.example.com.", "a.example.com:x"),
    *("[::1]x", "[::1]:", "[::1]:x", "shop,", "shop\t", "(a)", "a=b", "a|b", "a^b", "a`b", "a{b"),
    *('a"b', "a<b", "a[b]"),
]
# H1, H2, H7, H9-H11, H14: header fields.
FIELDS = [
    *("X_User: a", "X-User : a", "X.User: a", "x user: a", "\xc3\xa9: a", ": a", "x: a\x80"),
    *("x: a\x00", "x: a\x01", "x: a\x7f", "x: a\rb", "x: a\r", "x\ry: 1", "x:a", "x:", "x:  a  "),
    *(
        "x:\ta\t",
        "x: a\r\n b",
        "x: a\r\n\tb\r\n  c",
        "x: a\r\n ",
        "x",
        "(x): a",
        "x!#$%&'*+.^`|~: a",
    ),
    *("X-Original-URL: /admin", "x-envoy-original-path: /admin", "x-envoy-foo: 1"),
    *("x-envoy-internal: true", "X-Forwarded-Proto: https", "x-forwarded-client-cert: a"),
    *("X-Request-ID: my", "Forwarded: for=1", "x-gateway-assertion: a", "TE: trailers", "TE: gzip"),
    *("TE: trailers, gzip", "TE: gzip;q=1, Trailers", "TE:", "Keep-Alive: 1"),
    *("Proxy-Connection: close", "Via: 1.1 a", "cookie: a\r\nCookie: b", "x-a: 1\r\nx-a: 2"),
    *("authorization: a", "x-http-method-override: DELETE", "Proxy-Authorization: x", "x-user: e"),
    *("x-envoy-retry-on: 5xx", "x-envoy-upstream-rq-timeout-ms: 1", "x-forwarded-host: a"),
    *("x-envoy-max-retries: 3", "x-envoy-decorator-operation: a", "x-forwarded-port: 1"),
    *("date: x", ":path: /x", ":method: x", "x-forwarded-for: 1.2.3.4", "Host: zz", "Host: b"),
    *("Expect: 100-continue", "Upgrade: websocket", "Upgrade: h2c"),
    *("Connection: host", "Connection: x-a\r\nX-A: 1", "Connection: x-user", "Connection: te"),
    *("Connection: cookie\r\nCookie: a", "Connection: x-forwarded-for", "Connection: :path"),
    *("Connection: x-forwarded-host", "Connection: x-forwarded-proto", "Connection: x a\r\nX-A: 1"),
    *(
        "Connection: 1,2,3,4,5,6,7,8,9",
        "Connection: 1,2,3,4,5,6,7,8,9,10",
        "Connection: 1,2,3,4,5,6,7,8,9,10,11",
        "Connection:",
    ),
    *("Connection: accept, accept\r\nAccept: a", "Connection: upgrade\r\nUpgrade: websocket"),
    *("Connection: upgrade\r\nUpgrade: foo", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c"),
    *("Content-Length: 0", "Content-Length: -1", "Content-Length: +0", "Content-Length: 0,0"),
    *("Content-Length: 0\r\nContent-Length: 0", "Content-Length: ", "Content-Length: 0x0"),
    *("Content-Length: 99999999999999999999", "Content-Length: 00", "Content-Length: 0 "),
    *("Content-Length: 0\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding:"),
]
CHUNKS = [
    *("5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n"),
    *(
        "5 \r\nhello\r\n0\r\n\r\n",
        "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
    ),
    *("5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n", "5\r\nhello\r\n0\r\nx-user: evil\r\n\r\n"),
]
LINES = [
    *("get /x HTTP/1.1", "FOO /x HTTP/1.1", "TRACE /x HTTP/1.1", "CONNECT /x HTTP/1.1"),
    *("CONNECT a:443 HTTP/1.1", "CONNECT zz HTTP/1.1", "QUERY /x HTTP/1.1", "OPTIONS * HTTP/1.1"),
    *("OPTIONS /x HTTP/1.1", "GET /x HTTP/1.0", "GET /x HTTP/1.2", "GET /x HTTP/0.9", "GET /x"),
    *("GET /x HTTP/2.0", "GET /x HTTP/2", "GET /x http/1.1", "GET", "GET /x HTTP/1.1 x"),
    *("GET /x y HTTP/1.1", "GET /x HTTP/1.1\x0b", "G(T /x HTTP/1.1", " GET /x HTTP/1.1"),
    *(
        "GET /x HTTP/11",
        "GET /x HTTP/1.",
        "GET /x HTTP/1.1 ",
        "GET  /x HTTP/1.1",
        "GET\t/x HTTP/1.1",
    ),
    *("GET /x  HTTP/1.1", "GET /x HTTP/1.1\r", "PATCH /x HTTP/1.1", "PURGE /x HTTP/1.1"),
    *("M-SEARCH /x HTTP/1.1", "PROPFIND /x HTTP/1.1", "Get /x HTTP/1.1", "GET /\x80 HTTP/1.1"),
    *(
        "GET /\xc3\xbc HTTP/1.1",
        "GET /?\xc3\xbc HTTP/1.1",
        "GET /\x00 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
    ),
    *("HEAD /x HTTP/1.1", "POST /up HTTP/1.1", "PUT /get HTTP/1.1", "HEAD /get HTTP/1.1"),
    *("DELETE /get HTTP/1.1", "GET /get/ HTTP/1.1", "GET /gets HTTP/1.1"),
    *(f"{method} /.well-known/gateway-jwks.json HTTP/1.1" for method in ("GET", "HEAD", "PUT")),
    *(f"{method} /.well-known/gateway-jwks.json HTTP/1.1" for method in ("get", "OPTIONS", "X-Y")),
]
WHOLE = {
    "no Host": "GET /x HTTP/1.1\r\n\r\n",
    "a URL and no Host": "GET http://evil/x HTTP/1.1\r\n\r\n",
    "LF alone": "GET /x HTTP/1.1\nHost: zz\n\n",
    "both line ends": "GET /x HTTP/1.1\nHost: zz\r\nx: 1\n\r\n",
    "empty lines before": "\r\n\r\nGET /x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "LF before": "\nGET /x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "a blank line before": " \r\nGET /x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "a fold first": "GET /x HTTP/1.1\r\n Host: zz\r\n\r\n",
    "CR alone": "GET /x HTTP/1.1\rHost: zz\r\rX: y\r\n\r\n",
    "a blank before the colon of Host": "GET /x HTTP/1.1\r\nHost : zz\r\n\r\n",
    "a body with its length": "POST /x HTTP/1.1\r\nHost: zz\r\nContent-Length: 5\r\n\r\nhello",
    "a body that is too short": "POST /x HTTP/1.1\r\nHost: zz\r\nContent-Length: 9\r\n\r\nhello",
    "the same, and no route": "POST /get HTTP/1.1\r\nHost: zz\r\nContent-Length: 9\r\n\r\nhello",
    "the same, and denied": ("POST /locked HTTP/1.1\r\nHost: zz\r\nContent-Length: 9\r\n\r\nhello"),
    "chunks that don't end": (
        "POST /x HTTP/1.1\r\nHost: zz\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello"
    ),
    "the same, and denied ": (
        "POST /locked HTTP/1.1\r\nHost: zz\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ),
    "a body without length": "POST /x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "QUERY with a type": "QUERY /x HTTP/1.1\r\nHost: zz\r\nContent-Type: a/b\r\n\r\n",
    "an upgrade on its route": (
        "GET /up HTTP/1.1\r\nHost: zz\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"
    ),
    "99 fields": "GET /x HTTP/1.1\r\nHost: zz\r\n" + "x: 1\r\n" * 99 + "\r\n",
    "101 fields": "GET /x HTTP/1.1\r\nHost: zz\r\n" + "x: 1\r\n" * 100 + "\r\n",
    "50 KiB": "GET /x HTTP/1.1\r\nHost: zz\r\nx: " + "a" * 51_200 + "\r\n\r\n",
    "61 KiB": "GET /x HTTP/1.1\r\nHost: zz\r\nx: " + "a" * 62_464 + "\r\n\r\n",
    "a header that a route wants": "GET /when HTTP/1.1\r\nHost: zz\r\nX-Beta: yes\r\n\r\n",
    "another value of it": "GET /when HTTP/1.1\r\nHost: zz\r\nX-Beta: no\r\n\r\n",
    "both values of it": "GET /when HTTP/1.1\r\nHost: zz\r\nX-Beta: no\r\nX-Beta: yes\r\n\r\n",
    "a parameter that a route wants": "GET /asked?mode=x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "a parameter twice": "GET /asked?mode=y&mode=x HTTP/1.1\r\nHost: zz\r\n\r\n",
    "an escaped parameter": "GET /asked?mode=%78 HTTP/1.1\r\nHost: zz\r\n\r\n",
}


def requests() -> dict[str, bytes]:
    """Return every request by its name."""
    found = {f"path {path}": f"GET {path} HTTP/1.1{_END}" for path in PATHS}
    found |= {f"target {target}": f"GET {target} HTTP/1.1{_END}" for target in TARGETS}
    found |= {f"host {h!r}": f"GET /x HTTP/1.1\r\nHost: {h}\r\n\r\n" for h in HOSTS}
    found |= {f"field {f!r}": f"GET /x HTTP/1.1\r\nHost: zz\r\n{f}\r\n\r\n" for f in FIELDS}
    head = "POST /x HTTP/1.1\r\nHost: zz\r\nTransfer-Encoding: chunked\r\n\r\n"
    found |= {f"chunks {chunks!r}": head + chunks for chunks in CHUNKS}
    found |= {f"line {line!r}": line + _END for line in LINES}
    return {name: _latin(raw) for name, raw in (found | WHOLE).items()}
