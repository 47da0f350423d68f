"""Which responses may be stored (RFC 9111 section 3), and for how long they are fresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.caching import selecting
from extproc.caching.control import of_response
from extproc.caching.fields import names
from extproc.caching.freshness import HEURISTICALLY, lifetime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.caching.control import Directives
    from extproc.caching.freshness import Lifetime
    from extproc.caching.policy import Policy
    from extproc.core.headers import Headers

_ERROR = 500
PARTIAL = 206
_NOT_MODIFIED = 304
_FINAL = range(200, 600)
# Answers to fields of a request that no key holds: stored, one client's would be everybody's.
_OF_FIELDS = frozenset({412, 416, 417, 431})
_OF_ONE_REQUEST = _OF_FIELDS | {400, 408, 411, 413, 415, 421, 425, 426, 428, 429}
# For these a route's `ttl` stands in; errors have lifetimes of their own (`statuses`).
_WITH_TTL = frozenset({200, 203, 204, 300, 301, 308})
# What this cache knows the meaning of, for `must-understand` (section 5.2.2.3).
_UNDERSTOOD = frozenset(
    {*HEURISTICALLY, 201, 202, 302, 303, 307, *range(400, 418), 421, 422, 426, 451, 500, 502}
    | {503, 504, 505}
)
# Permission to store what was asked with credentials (section 3.5).
_SHARED_DESPITE_CREDENTIALS = ("public", "s-maxage", "must-revalidate")
# Fields of one connection or one delivery (sections 3.1 and RFC 9110 section 7.6.1), and what is
# told anew with each response.
NOT_STORED = frozenset(
    {
        "age",
        "cache-status",
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
PARTIAL_AGGREGATE = "x-gateway-partial"
_TRAILERS_ONLY = "grpc-status"  # a call's trailers, where nothing else came (gRPC over HTTP/2)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request that a response answers says about storing.

    Attributes:
        method: for example `GET`.
        no_store: it forbids storing.
        credentials: the upstream got an Authorization that isn't in the key.
    """

    method: str = "GET"
    no_store: bool = False
    credentials: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """How a response is kept.

    Attributes:
        why_not: the reason why it isn't stored; empty if it is.
        lifetime: seconds that it is fresh from when it was made.
        validate: it must be validated before each reuse (section 5.2.2.4).
        never_stale: it must not be reused once it is stale (section 4.2.4).
        while_revalidate: seconds past its lifetime (RFC 5861 section 3).
        if_error: seconds past its lifetime (RFC 5861 section 4).
    """

    why_not: str = ""
    lifetime: float = 0.0
    validate: bool = False
    never_stale: bool = False
    while_revalidate: float = 0.0
    if_error: float = 0.0


def kept(asked: Asked, status: int, headers: Headers, policy: Policy, now: float) -> Kept:
    """Decide about a response.

    Args:
        asked: of its request.
        status: of the response.
        headers: of the response.
        policy: of the route.
        now: seconds since the epoch.
    """
    said = of_response(headers)
    reason = forbidden(asked, status, headers, said, policy)
    if reason:
        return Kept(reason)
    named = lifetime(status, headers, said, now)
    seconds = _seconds(status, named, policy)
    if named.explicit and must_be_revalidated(said):
        # No policy makes fresh what is stale by its own words.
        seconds = min(seconds, named.seconds)
    goes_stale = not never_stale(said)
    may_be_stale = goes_stale and (named.explicit or seconds > 0)
    found = Kept(
        "",
        seconds,
        "no-cache" in said,
        not goes_stale,
        _window(said, "stale-while-revalidate", policy.stale_while_revalidate, may_be_stale),
        _window(said, "stale-if-error", policy.stale_if_error, may_be_stale),
    )
    return found if _has_use(found, named, status, headers, said) else Kept("no-lifetime")


def forbidden(asked: Asked, status: int, headers: Headers, said: Directives, policy: Policy) -> str:
    """Return why a response must not be stored, whatever its lifetime; empty if it may."""
    understood = "must-understand" in said
    reasons = (
        ("method", asked.method != "GET"),
        ("request-no-store", asked.no_store),
        ("status", status not in _FINAL or status == _NOT_MODIFIED),
        ("request", _is_of_one_request(status, policy)),
        ("must-understand", understood and status not in _UNDERSTOOD),
        ("no-store", "no-store" in said and not understood),
        ("private", "private" in said),
        ("set-cookie", "set-cookie" in headers),
        (
            "authorization",
            asked.credentials and not (policy.shared and _despite_credentials(said)),
        ),
        ("vary", selecting.varying(headers) is None),
        ("partial", PARTIAL_AGGREGATE in headers),
        ("trailers", _TRAILERS_ONLY in headers),
    )
    return next((reason for reason, holds in reasons if holds), "")


def _is_of_one_request(status: int, policy: Policy) -> bool:
    """Say whether an answer is about what no key holds; a route may want some for a while."""
    return status in _OF_ONE_REQUEST and (status in _OF_FIELDS or status not in policy.statuses)


def _despite_credentials(said: Directives) -> bool:
    return any(name in said for name in _SHARED_DESPITE_CREDENTIALS)


def _seconds(status: int, named: Lifetime, policy: Policy) -> float:
    """Return the lifetime under the route's policy."""
    if policy.force_ttl is not None and (named.explicit or status in _WITH_TTL):
        return policy.force_ttl
    seconds, known = named.seconds, named.explicit or named.seconds > 0
    if not named.explicit:
        if status in policy.statuses:
            seconds, known = policy.statuses[status], True
        elif policy.ttl is not None:
            known = status in _WITH_TTL
            seconds = policy.ttl if known else 0.0
    if not known:
        return 0.0
    seconds = max(seconds, policy.min_ttl)
    return seconds if policy.max_ttl is None else min(seconds, policy.max_ttl)


def is_telling(status: int) -> bool:
    """Say whether an answer that isn't stored says what becomes of the next.

    An error doesn't, nor does what is wrong with one request.
    """
    return status < _ERROR and status not in _OF_ONE_REQUEST


def is_less(headers: Headers, metadata: Mapping[str, object]) -> bool:
    """Say whether an answer is less than the whole one that may be stored, which stays then.

    It was made without a part, or with one that is past its lifetime.

    Args:
        headers: of the answer.
        metadata: of it, where it was made here.
    """
    return PARTIAL_AGGREGATE in headers or not metadata.get("whole", True)


def must_be_revalidated(said: Directives) -> bool:
    """Say whether nobody may reuse it past the lifetime it names (sections 5.2.2.2 and 5.2.2.8)."""
    return "must-revalidate" in said or "proxy-revalidate" in said


def never_stale(said: Directives) -> bool:
    """Say whether stale reuse is forbidden; `s-maxage` says so too (section 5.2.2.10)."""
    return must_be_revalidated(said) or "s-maxage" in said


def _window(said: Directives, name: str, otherwise: float, may_be_stale: bool) -> float:  # noqa: FBT001 - one fact of the response
    if not may_be_stale or "no-cache" in said:
        return 0.0
    seconds = said.seconds(name)
    return otherwise if seconds is None else float(seconds)


def _has_use(found: Kept, named: Lifetime, status: int, headers: Headers, said: Directives) -> bool:
    """Say whether it can ever be reused: while fresh, stale, or by validation."""
    if found.lifetime > 0 and not found.validate:
        return True
    if found.while_revalidate or found.if_error:
        return True
    # Section 3: a lifetime is named, or the status may be stored without one.
    may = named.explicit or status in HEURISTICALLY or "public" in said
    return may and ("etag" in headers or "last-modified" in headers)


def stored_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Return the fields that are stored: not those of the connection (section 3.1)."""
    left_out = NOT_STORED.union(names(headers.get_all("connection")))
    return tuple([(name, value) for name, value in headers.items() if name not in left_out])
