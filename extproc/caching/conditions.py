"""Preconditions of clients, held against what is stored (RFC 9110 section 13, RFC 9111 4.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching.dates import moment
from extproc.core.entity_tags import tags_of

if TYPE_CHECKING:
    from extproc.caching.entry import Entry, Pairs
    from extproc.core.headers import Headers

_OK = range(200, 300)
# What a 304 leaves out: all that describes a content it doesn't have (section 15.4.5).
_OF_CONTENT = frozenset(
    {"content-encoding", "content-language", "content-range", "content-type", "content-md5"}
)


def weakly_equal(one: str, two: str) -> bool:
    """Compare entity tags where what is the same is all that matters (section 8.8.3.2)."""
    return bool(one) and one.removeprefix("W/") == two.removeprefix("W/")


def strongly_equal(one: str, two: str) -> bool:
    """Compare entity tags where each byte matters (section 8.8.3.2)."""
    return bool(one) and one == two and not one.startswith("W/")


def not_modified(headers: Headers, entry: Entry, now: float) -> bool:
    """Say whether a request's conditions make a stored response a 304.

    Args:
        headers: of the request.
        entry: the stored response.
        now: seconds since the epoch.
    """
    if entry.status not in _OK:
        return False
    wanted = headers.get("if-none-match")
    if wanted is not None:
        if wanted.strip() == "*":
            return True
        return any(weakly_equal(tag, entry.etag) for tag in tags_of(wanted))
    since = headers.get("if-modified-since")
    if since is None:
        return False
    asked = moment(since, now)
    if asked is None:
        return False
    modified = moment(entry.modified or entry.first("date"), now)
    return (entry.came if modified is None else modified) <= asked


def for_upstream_alone(headers: Headers, entry: Entry) -> bool:
    """Say whether a precondition is one that only the upstream can judge as failed.

    If-Match and If-Unmodified-Since aren't for caches (RFC 9111 section 4.3.2): where what is
    stored fulfils them it is given, else the upstream says 412 itself.
    """
    match = headers.get("if-match")
    if match is not None:
        return not any(strongly_equal(tag, entry.etag) for tag in tags_of(match))
    return "if-unmodified-since" in headers


def headers_of_304(headers: Pairs) -> list[tuple[str, str]]:
    """Return the fields of a 304 made of a stored response."""
    return [pair for pair in headers if pair[0] not in _OF_CONTENT]
