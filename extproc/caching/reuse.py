"""Whether a stored response may be reused for a request (RFC 9111 section 4 and 4.2.4)."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.caching.asking import Asks
    from extproc.caching.entry import Entry


class Use(Enum):
    """What to do with a stored response."""

    FRESH = "fresh"
    STALE = "stale"  # the request takes it as it is
    REVALIDATE = "revalidate"  # stale, and validated while it is given
    VALIDATE = "validate"  # not before it was validated


def use(entry: Entry, asked: Asks, now: float) -> Use:
    """Decide.

    Args:
        entry: what is stored.
        asked: by the request.
        now: seconds since the epoch.
    """
    if entry.validate or asked.no_cache:
        return Use.VALIDATE
    age = entry.aged(now)
    left = entry.fresh_until - now
    if age > asked.max_age or left < asked.min_fresh:
        return Use.VALIDATE
    return Use.FRESH if left > 0 else _stale(entry, asked, -left)


def _stale(entry: Entry, asked: Asks, past: float) -> Use:
    if entry.never_stale:
        return Use.VALIDATE
    if asked.max_stale is not None and past <= asked.max_stale:
        return Use.STALE
    if past < entry.while_revalidate and asked.max_age == inf:
        return Use.REVALIDATE
    return Use.VALIDATE


def stands_in(entry: Entry, asked: Asks, now: float, at_least: float = 0.0) -> bool:
    """Say whether a stored response may stand in for an error (RFC 5861 section 4).

    Args:
        entry: what is stored.
        asked: by the request.
        now: seconds since the epoch.
        at_least: seconds past its lifetime, where the response allows less.
    """
    if entry.validate or entry.never_stale or asked.no_cache or entry.aged(now) > asked.max_age:
        return False
    past = now - entry.fresh_until
    if -past < asked.min_fresh:
        return False
    return past < 0 or past < max(entry.if_error, at_least)
