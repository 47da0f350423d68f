"""What a head says of its content: that there is none, or what its bytes are.

Responses to HEAD, 204 and 304 have no content, whatever a plugin gives them (RFC 9110 section
6.4.1). Envoy sends what it is given, and a client takes what follows such a head for its next
response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.core.headers import Headers

STATUSES = frozenset({204, 304})
"""Those that say that there is none."""

DIGESTS = ("content-digest", "content-md5", "digest", "repr-digest")
"""Of the bytes (RFC 9530): of others they are false."""


def is_without(method: str, status: int) -> bool:
    """Say whether a response to this method, with this status, is a head alone."""
    return method == "HEAD" or status in STATUSES


def is_grpc(headers: Headers) -> bool:
    """Say whether a message is gRPC's, whose status comes in trailers."""
    return (headers.get("content-type") or "").startswith("application/grpc")
