"""The rules of a shared cache as pure functions (RFC 9111)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.headers import Headers
    from extproc.core.values import Request, Response

_OK = 200
_LONGEST = 2**31  # RFC 9111 section 1.2.2
_NEVER_STORED = frozenset({"no-store", "private", "no-cache"})
# Headers of one connection or one delivery are not part of a stored response (section 3.1).
_NOT_STORED = frozenset(
    {
        "age",
        "cache-status",
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
_MOST_VARYING = 10


def directives(headers: Headers) -> dict[str, str]:
    """Read Cache-Control (section 5.2); names in lower case, the first of each counts."""
    found: dict[str, str] = {}
    for part in (headers.get("cache-control") or "").split(","):
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name.lower(), value.strip('"'))
    return found


def may_answer(request: Request) -> bool:
    """Say whether a stored response may be used for this request (section 4)."""
    if request.method not in {"GET", "HEAD"} or "range" in request.headers:
        return False
    return {"no-cache", "no-store"}.isdisjoint(directives(request.headers))


def lifetime(response: Response, ttl: float) -> float:
    """Return how long a response is fresh, seconds: what it says itself, else `ttl` (4.2.1)."""
    said = directives(response.headers)
    for name in ("s-maxage", "max-age"):
        if name in said:
            return _seconds(said[name])
    return ttl


def _seconds(text: str) -> float:
    """Read delta-seconds; what can't be read is stale (section 4.2.1)."""
    return float(min(int(text), _LONGEST)) if text.isascii() and text.isdigit() else 0.0


def may_store(request: Request, response: Response) -> bool:
    """Say whether a response may be stored (section 3); narrower than the RFC allows."""
    return (
        request.method == "GET"
        and "range" not in request.headers
        and response.status == _OK
        and "set-cookie" not in response.headers
        and "no-store" not in directives(request.headers)
        and _NEVER_STORED.isdisjoint(directives(response.headers))
        and varying(response) is not None
    )


def varying(response: Response) -> tuple[str, ...] | None:
    """Return the request headers that select this variant; None if nothing can (section 4.1)."""
    names = {
        name.strip().lower()
        for value in response.headers.get_all("vary")
        for name in value.split(",")
        if name.strip()
    }
    if "*" in names or len(names) > _MOST_VARYING:
        return None
    # The upstream is never asked for an encoding; what the client gets is encoded afterwards.
    return tuple(sorted(names - {"accept-encoding"}))


def primary_key(request: Request, version: str) -> str:
    """Return the key under which this request's response is found.

    Scheme, host, path and query as sent, a cookie, and who is calling: an answer to one
    principal is never another's.
    """
    principal = request.principal
    return _hashed(
        (
            version,
            request.scheme,
            request.host,
            request.target,
            request.headers.get("cookie") or "",
            principal.kind,
            principal.issuer,
            principal.subject,
            *principal.scopes,
            request.consumer,
        )
    )


def variant_key(primary: str, names: Iterable[str], request: Request) -> str:
    """Return the key of the variant that these request headers select."""
    wanted = [f"{name}={request.headers.get(name)!r}" for name in names]
    return _hashed((primary, *wanted)) if wanted else f"{primary}/"


def _hashed(parts: tuple[str, ...]) -> str:
    """Hash parts so that no part can pass for two: each carries its length."""
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=24).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored response.

    Attributes:
        status: of the response.
        headers: pairs, in order.
        body: bytes.
        stored: seconds since the epoch.
        expires: seconds since the epoch; stale from then on.
        initial_age: seconds; the Age it came with.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stored: float
    expires: float
    initial_age: float

    def written(self) -> bytes:
        """Write as bytes for a store."""
        head = orjson.dumps(
            [1, self.status, self.headers, self.stored, self.expires, self.initial_age]
        )
        return len(head).to_bytes(4, "big") + head + self.body

    @classmethod
    @lru_cache(maxsize=256)
    def read(cls, data: bytes) -> Stored | None:
        """Read what a store gave; whatever isn't ours is a miss."""
        try:
            size = int.from_bytes(data[:4], "big")
            form, status, pairs, stored, expires, age = orjson.loads(data[4 : 4 + size])
            headers = tuple((str(name), str(value)) for name, value in pairs)
            if form != 1:
                return None
            return cls(
                int(status), headers, data[4 + size :], float(stored), float(expires), float(age)
            )
        except (ValueError, TypeError):
            return None


def to_store(response: Response, body: bytes, now: float, ttl: float) -> Stored | None:
    """Make a stored response; None if it would be stale at once."""
    age = _seconds(response.headers.get("age") or "0")
    fresh = lifetime(response, ttl) - age
    if fresh <= 0:
        return None
    headers = tuple(
        (name, value) for name, value in response.headers.items() if name not in _NOT_STORED
    )
    return Stored(response.status, headers, body, now, now + fresh, age)
