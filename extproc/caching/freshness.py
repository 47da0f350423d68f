"""How long a response is fresh, and how old it is (RFC 9111 section 4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.caching.control import LONGEST, Directives
from extproc.caching.dates import moment
from extproc.caching.fields import members

if TYPE_CHECKING:
    from extproc.core.headers import Headers

_DIGITS = re.compile(r"\d+\Z", re.ASCII)
_TENTH = 0.1  # section 4.2.2: a typical fraction of the time since the last modification
_LONGEST_GUESS = 86_400.0
# Final statuses that are heuristically cacheable (RFC 9110 section 15.1), but 206.
HEURISTICALLY = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a response is fresh.

    Attributes:
        seconds: from when it was made.
        explicit: the response says so itself; else it was guessed, or isn't known.
    """

    seconds: float
    explicit: bool


UNKNOWN = Lifetime(0.0, explicit=False)


def lifetime(status: int, headers: Headers, said: Directives, now: float) -> Lifetime:
    """Return the freshness lifetime (section 4.2.1); `s-maxage`, `max-age`, Expires, a guess.

    Args:
        status: of the response.
        headers: of the response.
        said: its directives for us.
        now: when it came, seconds since the epoch.
    """
    for name in ("s-maxage", "max-age"):
        seconds = said.seconds(name)
        if seconds is not None:
            return Lifetime(float(seconds), explicit=True)
    if not said.targeted:
        expires = headers.get_all("expires")
        if expires:
            return Lifetime(_until(expires, headers, now), explicit=True)
    return Lifetime(_guess(status, headers, said, now), explicit=False)


def _until(expires: list[str], headers: Headers, now: float) -> float:
    """Return how far Expires lies ahead of Date; 0 for what can't be read (section 5.3)."""
    moments = [moment(text, now) for text in expires]
    if None in moments:
        return 0.0
    latest = min(found for found in moments if found is not None)
    return min(max(latest - made(headers, now), 0.0), float(LONGEST))


def _guess(status: int, headers: Headers, said: Directives, now: float) -> float:
    if status not in HEURISTICALLY and "public" not in said:
        return 0.0
    modified = moment(headers.get("last-modified") or "", now)
    if modified is None:
        return 0.0
    return min(max(made(headers, now) - modified, 0.0) * _TENTH, _LONGEST_GUESS)


def made(headers: Headers, now: float) -> float:
    """Return when the response was made: its Date, or when it came (RFC 9110 section 6.6.1)."""
    dates = headers.get_all("date")
    found = moment(dates[0], now) if len(dates) == 1 else None
    return now if found is None else found


def stated_age(headers: Headers) -> float:
    """Return the Age it came with: of a list the first; what is no number is ignored (5.1)."""
    found = members(headers.get_all("age"))
    if not found or not _DIGITS.match(found[0]):
        return 0.0
    return float(min(int(found[0][:20]), LONGEST))


def initial_age(headers: Headers, asked: float, came: float) -> float:
    """Return how old a response was when it came (section 4.2.3).

    Args:
        headers: of the response.
        asked: when the request was sent, seconds since the epoch.
        came: when the response came.
    """
    apparent = max(0.0, came - made(headers, came))
    corrected = stated_age(headers) + max(0.0, came - asked)
    return max(apparent, corrected)
