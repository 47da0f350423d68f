"""HTTP dates in the three forms that must be understood (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# A cache reads them whatever their case (RFC 9111 section 4.2), and nothing else.
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"{_DAY}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT\Z",
        rf"{_LONG_DAY}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT\Z",
        rf"{_DAY} {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})\Z",
    )
)
_CENTURY = 100
_AHEAD = 50  # years; a two-digit year further ahead is of the past
_LONGEST = 40


def moment(text: str, now: float) -> float | None:
    """Return seconds since the epoch; None for what is no date.

    Args:
        text: the field's value.
        now: seconds since the epoch; decides what a year of two digits means.
    """
    return _moment(text, datetime.fromtimestamp(now, UTC).year) if len(text) < _LONGEST else None


@lru_cache(maxsize=4096)
def _moment(text: str, this_year: int) -> float | None:
    for form in _FORMS:
        found = form.match(text)
        if found is not None:
            return _seconds(found, this_year)
    return None


def _seconds(found: re.Match[str], this_year: int) -> float | None:
    year = int(found["year"])
    if len(found["year"]) < len("1994"):
        year += this_year // _CENTURY * _CENTURY
        if year > this_year + _AHEAD:
            year -= _CENTURY
    second = min(int(found["second"]), 59)  # a leap second is the one before it
    try:
        return datetime(
            year,
            _MONTHS[found["month"].lower()],
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            second,
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
