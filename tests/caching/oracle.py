"""What RFC 9111 allows a shared cache to reuse, written from its text: small, slow, on its own.

It keeps every response that an upstream ever gave, and is asked about each answer that came out of
a cache. Nothing here is shared with the cache under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

HEURISTICALLY_CACHEABLE = {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}


@dataclass
class Given:
    """A response of the upstream, and the request it was for."""

    target: str
    asked: dict[str, str]
    status: int
    headers: dict[str, str]
    body: bytes
    sent_at: float
    came_at: float
    void_at: float = float("inf")
    validated: bool = False


def directives(value: str) -> dict[str, str]:
    """Read Cache-Control (the histories hold no quoted strings)."""
    found: dict[str, str] = {}
    for part in value.split(","):
        name, _, argument = part.strip().partition("=")
        if name:
            found.setdefault(name.lower(), argument)
    return found


def number(text: str) -> float:
    """Read delta-seconds; what isn't is 0 (section 4.2.1: consider it stale)."""
    return float(text) if text.isdigit() else 0.0


def date(text: str) -> float | None:
    """Read a date."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None


def lifetime(given: Given) -> float:
    """Section 4.2.1, 4.2.2."""
    said = directives(given.headers.get("cache-control", ""))
    for name in ("s-maxage", "max-age"):
        if name in said:
            return number(said[name])
    made = date(given.headers.get("date", "")) or given.came_at
    if "expires" in given.headers:
        expires = date(given.headers["expires"])
        return max(0.0, expires - made) if expires is not None else 0.0
    modified = date(given.headers.get("last-modified", ""))
    heuristic = given.status in HEURISTICALLY_CACHEABLE or "public" in said
    if modified is not None and heuristic:
        return max(0.0, made - modified)  # the tenth is advice; beyond the whole nothing is
    return 0.0


def age(given: Given, now: float) -> float:
    """Section 4.2.3."""
    made = date(given.headers.get("date", "")) or given.came_at
    apparent = max(0.0, given.came_at - made)
    stated = number(given.headers.get("age", "0"))
    corrected = stated + given.came_at - given.sent_at
    return max(apparent, corrected) + now - given.came_at


def storable(given: Given) -> bool:
    """Section 3, for a shared cache; and no cookie is given to two clients."""
    said = directives(given.headers.get("cache-control", ""))
    if "no-store" in directives(given.asked.get("cache-control", "")) or "no-store" in said:
        return False
    return "private" not in said and "set-cookie" not in given.headers


def selected(given: Given, asked: dict[str, str]) -> bool:
    """Section 4.1."""
    names = [n.strip().lower() for n in given.headers.get("vary", "").split(",") if n.strip()]
    if "*" in names:
        return False
    return all(asked.get(n) == given.asked.get(n) for n in names if n != "accept-encoding")


def fresh_enough(given: Given, asked: dict[str, str], now: float) -> bool:
    """Section 4 and 4.2.4, 5.2.1; RFC 5861 section 3."""
    said = directives(given.headers.get("cache-control", ""))
    wants = directives(asked.get("cache-control", ""))
    if "no-cache" in said or "no-cache" in wants:
        return False
    old, left = age(given, now), lifetime(given) - age(given, now)
    if "max-age" in wants and old > number(wants["max-age"]):
        return False
    if "min-fresh" in wants and left < number(wants["min-fresh"]):
        return False
    return left > 0 or stale_allowed(said, wants, -left)


def stale_allowed(said: dict[str, str], wants: dict[str, str], past: float) -> bool:
    """Section 4.2.4."""
    if {"must-revalidate", "proxy-revalidate", "s-maxage"} & said.keys():
        return False
    if "max-stale" in wants and (not wants["max-stale"] or past <= number(wants["max-stale"])):
        return True
    return "stale-while-revalidate" in said and past < number(said["stale-while-revalidate"])


def may_be_reused(given: Given, target: str, asked: dict[str, str], now: float) -> bool:
    """Say whether a response may answer a request without the upstream."""
    return (
        given.target == target
        and given.sent_at <= given.void_at
        and now < given.void_at
        and storable(given)
        and selected(given, asked)
        and fresh_enough(given, asked, now)
    )
