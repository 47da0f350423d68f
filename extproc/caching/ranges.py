"""Parts of a stored response (RFC 9110 section 14, RFC 9111 section 3.3 and 3.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from extproc.caching.conditions import strongly_equal
from extproc.caching.dates import moment

if TYPE_CHECKING:
    from extproc.caching.entry import Entry
    from extproc.core.headers import Headers

_ONE = re.compile(r"bytes=[ \t]*(?:(\d{1,15})-(\d{1,15})?|-(\d{1,15}))[ \t]*\Z", re.IGNORECASE)
_CONTENT = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})\Z", re.IGNORECASE)
_SECOND = 1.0  # between Last-Modified and Date, for a date that tells two states apart

Span = tuple[int, int]
UNSATISFIABLE: Span = (1, 0)


def wanted(headers: Headers, length: int) -> Span | None:
    """Return the first and last byte that a request asks for.

    Args:
        headers: of the request.
        length: of the whole, bytes.

    Returns:
        None where the whole is to be given: several ranges, another unit, or what can't be read
        may be ignored (section 14.2). `UNSATISFIABLE` where nothing lies in the range.
    """
    found = _ONE.match(headers.get("range") or "")
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        span = (max(length - int(suffix), 0), length - 1)
        return span if int(suffix) and length else UNSATISFIABLE
    if last is not None and int(last) < int(first):
        return None
    if int(first) >= length:
        return UNSATISFIABLE
    return int(first), min(length - 1, int(last) if last is not None else length - 1)


def applies(headers: Headers, entry: Entry, now: float) -> bool:
    """Say whether If-Range lets the range count (section 13.1.5): by a strong validator alone."""
    condition = headers.get("if-range")
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return strongly_equal(condition, entry.etag)
    asked, modified = moment(condition, now), moment(entry.modified, now)
    if asked is None or modified is None or asked != modified:
        return False
    date = moment(entry.first("date"), now)
    return date is not None and date - modified >= _SECOND


def content_range(headers: Headers, size: int) -> tuple[int, int, int] | None:
    """Return the first and last byte and the whole's length of a 206; None for what isn't one.

    Args:
        headers: of the response.
        size: of its body, which must be what it says.
    """
    found = _CONTENT.match(headers.get("content-range") or "")
    if found is None:
        return None
    first, last, length = map(int, found.groups())
    if not first <= last < length or last - first + 1 != size:
        return None
    return first, last, length


def cut(entry: Entry, span: Span) -> bytes | None:
    """Return a span of what is stored; None if some of it isn't."""
    first, last = span
    if entry.part is None:
        return entry.body[first : last + 1]
    begins, ends, _ = entry.part
    if first < begins or last > ends:
        return None
    return entry.body[first - begins : last - begins + 1]


def joined(one: Entry, two: Entry) -> tuple[bytes, tuple[int, int, int]] | None:
    """Put two parts of the same whole together (RFC 9111 section 3.4).

    Returns:
        The bytes and where they lie; None for parts that may be of different states, or between
        which something is missing.
    """
    if one.part is None or two.part is None or one.part[2] != two.part[2]:
        return None
    if not strongly_equal(one.etag, two.etag):
        return None
    left, right = sorted((one, two), key=lambda entry: entry.part or (0, 0, 0))
    if left.part is None or right.part is None or right.part[0] > left.part[1] + 1:
        return None
    begins = left.part[0]
    body = left.body[: right.part[0] - begins] + right.body
    if right.part[1] < left.part[1]:
        body += left.body[right.part[1] + 1 - begins :]
    return body, (begins, max(left.part[1], right.part[1]), left.part[2])
