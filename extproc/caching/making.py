"""Making stored responses out of what an upstream answered."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from extproc.caching import ranges, selecting
from extproc.caching.control import of_response
from extproc.caching.entry import Entry
from extproc.caching.freshness import initial_age
from extproc.caching.keys import short
from extproc.caching.storing import PARTIAL, stored_headers
from extproc.caching.structured import NotStructured, listed
from extproc.core.content import DIGESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from extproc.caching.entry import Pairs
    from extproc.caching.storing import Kept
    from extproc.core.headers import Headers

# The newest mark of this worker and of all replicas, and in which generation those are counted.
Stamp = tuple[int, int, str]
_DEFLATED = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's window bits, and its header's kind
_OF_ENCODING = frozenset({"content-encoding", *DIGESTS})

_GROUPS = 32  # RFC 9875 section 2: at least so many


def made(
    status: int,
    headers: Headers,
    body: bytes,
    kept: Kept,
    asked: Headers,
    *,
    sent: float,
    now: float,
    uri: str,
    tags: Sequence[str] = (),
    stamp: Stamp = (0, 0, ""),
    largest: int = 0,
) -> Entry | None:
    """Make a stored response.

    Args:
        status: of the response.
        headers: of the response.
        body: all of it.
        kept: how it is to be kept.
        asked: the request's headers when it came; of them come the values that select it.
        sent: when the request was sent, seconds since the epoch.
        now: when the response came.
        uri: whose response it is.
        tags: by which it can be purged.
        stamp: the newest marks when the request was sent.
        largest: bytes of a decoded body.

    Returns:
        None for a part that isn't the part it says it is.
    """
    part = None
    if status == PARTIAL:
        part = ranges.content_range(headers, len(body))
        if part is None:
            return None
    pairs, body = decoded(stored_headers(headers), body, headers, largest)
    return Entry(
        status,
        pairs,
        body,
        now,
        initial_age(headers, sent, now),
        kept.lifetime,
        kept.validate,
        kept.never_stale,
        kept.while_revalidate,
        kept.if_error,
        selecting.selects(selecting.varying(headers) or (), asked),
        short(uri),
        tuple([short(tag) for tag in (*tags, *groups(headers, "cache-groups", uri))]),
        part,
        stamp[0],
        stamp[0],
        *stamp[1:],
    )


def groups(headers: Headers, name: str, uri: str) -> tuple[str, ...]:
    """Return the cache groups that a field names, as tags within one origin (RFC 9875)."""
    values = headers.get_all(name)
    if not values:
        return ()
    try:
        found = [member for member in listed(values) if isinstance(member, str)]
    except NotStructured:
        return ()
    origin = "/".join(uri.split("/", 3)[:3])
    return tuple(f"group {origin} {member}" for member in found[:_GROUPS])


def decoded(pairs: Pairs, body: bytes, headers: Headers, largest: int) -> tuple[Pairs, bytes]:
    """Undo an encoding that nobody asked for, so that one stored body serves every client.

    What can't be undone here stays as it is; so does what may not be transformed.
    """
    window = _DEFLATED.get((headers.get("content-encoding") or "").strip().lower())
    if window is None or "no-transform" in of_response(headers):
        return pairs, body
    try:
        inflating = zlib.decompressobj(window)
        plain = inflating.decompress(body, max(largest, len(body)))
        if not inflating.eof or inflating.unused_data:
            return pairs, body
    except zlib.error:
        return pairs, body
    kept = [pair for pair in pairs if pair[0] not in _OF_ENCODING]
    return tuple([_weakened(pair) for pair in kept]), plain


def _weakened(pair: tuple[str, str]) -> tuple[str, str]:
    name, value = pair
    strong = name == "etag" and value.startswith('"')
    return (name, f"W/{value}") if strong else pair


def refreshed(
    entry: Entry,
    headers: Headers,
    kept: Kept,
    pairs: Pairs,
    asked: Headers,
    *,
    sent: float,
    now: float,
    stamp: Stamp,
) -> Entry:
    """Return a stored response that a 304 confirmed (RFC 9111 section 4.3.4).

    Args:
        entry: what is stored.
        headers: of the stored response, updated.
        kept: how that is kept.
        pairs: the updated fields, as they are stored.
        asked: the headers, when it came, of the request that it was confirmed for; they select it
            from now on, by the fields that it names now.
        sent: when the request was sent, seconds since the epoch.
        now: when the 304 came.
        stamp: the newest marks when the request was sent.
    """
    return Entry(
        entry.status,
        pairs,
        entry.body,
        now,
        initial_age(headers, sent, now),
        kept.lifetime,
        kept.validate,
        kept.never_stale,
        kept.while_revalidate,
        kept.if_error,
        selecting.selects(selecting.varying(headers) or (), asked),
        entry.uri,
        entry.tags,
        entry.part,
        stamp[0],
        stamp[0],
        *stamp[1:],
    )
