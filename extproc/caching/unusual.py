"""Headers of a request that not every stored response fits: the usual one has none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.caching.keys import KeyOf
    from extproc.core.values import Request

_SPECIAL = (
    "authorization",
    "cache-control",
    "cookie",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
)
# By these an upstream may take a request for one to another place, though they are in no key and
# no Vary names them: one client would choose what others get. `x-forwarded-for` and `-proto` Envoy
# sets itself, and what no route's upstream may get it takes off before.
UNKEYED = (
    "base-url",
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "forwarded",
    "front-end-https",
    "host-override",
    "proxy-host",
    "request-uri",
    "x-appengine-https",
    "x-arr-ssl",
    "x-backend-host",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-proxy-url",
    "x-real-host",
    "x-rewrite-uri",
    "x-scheme",
    "x-url-scheme",
)


def unkeyed(key: KeyOf) -> tuple[str, ...]:
    """Return the headers that the upstream must not get, as they aren't in the key."""
    read = {name for name, _ in key.parts}
    if "request.headers" in read:
        return ()
    return tuple(
        [n for n in UNKEYED if n not in key.headers and f"request.headers.{n}" not in read]
    )


def special(key: KeyOf) -> tuple[str, ...]:
    """Return the headers of which the usual request has none; the credentials in the key too."""
    return tuple(sorted({*_SPECIAL, *key.secrets, *unkeyed(key)}))


def take_off(request: Request, names: tuple[str, ...]) -> None:
    """Take headers off that a client sent; what plugins wrote before stays."""
    if request.headers.has_any(names):
        written = {name for name, _ in request.headers.written()}
        for name in names:
            if name not in written:
                del request.headers[name]
