"""What Envoy and the service agree on: names that the compiler writes and the wire reads.

The verdict is dynamic metadata in a namespace that only the service may write. Its value is a
route's key, `route@version`; an RBAC filter behind ext_proc lets a request through only with
the key of the very route it will take.
"""

from __future__ import annotations

NAMESPACE = "extproc"
"""Of route metadata (`id`) and of the verdict's dynamic metadata (`verdict`)."""

ROUTE_ATTRIBUTE = f'xds.route_metadata.filter_metadata["{NAMESPACE}"]["id"]'
"""CEL attribute by which Envoy tells the route's key, as a scalar."""

ADDRESS_ATTRIBUTE = "source.address"
"""The client's `ip:port` after trusted proxies."""

DETAILS_ATTRIBUTE = "response.code_details"
"""Where a response comes from; `via_upstream` for an upstream's."""

CERTIFICATE_URI_ATTRIBUTE = "connection.uri_san_peer_certificate"
"""The first URI that the client's certificate names; absent without one."""

CERTIFICATE_SUBJECT_ATTRIBUTE = "connection.subject_peer_certificate"
"""The subject of the client's certificate."""

CERTIFICATE_DIGEST_ATTRIBUTE = "connection.sha256_peer_certificate_digest"
"""The SHA-256 of the client's certificate, hexadecimal."""

CERTIFICATE_ATTRIBUTES = (
    CERTIFICATE_DIGEST_ATTRIBUTE,
    CERTIFICATE_URI_ATTRIBUTE,
    CERTIFICATE_SUBJECT_ATTRIBUTE,
)
"""Asked for only where an authenticator reads them."""

REQUEST_ATTRIBUTES = (ROUTE_ATTRIBUTE, ADDRESS_ATTRIBUTE)
RESPONSE_ATTRIBUTES = (DETAILS_ATTRIBUTE,)

ROUTE_EXTENSION = "extproc_route"
"""The context extension by which an ext_authz filter tells the route's key, or its name alone."""

MESSAGE_TIMEOUT = 1.0
"""Seconds that Envoy waits for one answer; the service asks for more, once, where it waits."""

LARGEST_WHOLE = 60 << 20
"""Bytes of a body that Envoy sends whole.

The local server takes messages of 64 MiB. What is over the limit Envoy notices with the piece that
came last, which may be a mebibyte, and each message holds more than the body.
"""

MOST_TIMEOUT = 3600.0
"""Seconds; the most that the service may ask for, Envoy's own bound. Not the longest deadline of a
gateway file: a connection keeps the listener by which it came, and takes later routes."""

UPSTREAM_HEADER = "x-extproc-upstream"
"""By which a call of the service tells the egress listener where it goes."""

WITH_HOST = ";host"
"""After the upstream's name: the call's Host is what a client asked for, and stays."""

CONTROL_HEADERS = (
    UPSTREAM_HEADER,
    "x-gateway-assertion",
    "x-gateway-partial",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-middleware-subrequest",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-uri",
)
"""Names by which a client might pretend to be a part of this gateway, or make an upstream see
another path or method than the one that was judged."""
