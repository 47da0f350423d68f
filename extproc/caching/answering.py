"""Responses made of what is stored: whole, a part, 304 or 416."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching import conditions, ranges, status
from extproc.caching.fields import WEIGHT, members
from extproc.core.headers import Headers
from extproc.core.values import Response

if TYPE_CHECKING:
    from extproc.caching.entry import Entry, Pairs

_OK = 200
_PARTIAL = 206
_NOT_MODIFIED = 304
_UNSATISFIABLE = 416
_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})


def whole(entry: Entry, now: float) -> Response:
    """Return what is stored, as it is."""
    return _made(entry, entry.status, entry.headers, entry.body, now)


def answer(entry: Entry, headers: Headers, method: str, now: float) -> Response | None:
    """Return what a request gets of a stored response.

    Args:
        entry: the stored response, which may be reused.
        headers: of the request.
        method: GET or HEAD.
        now: seconds since the epoch.

    Returns:
        None if what it wants isn't in what is stored.
    """
    if not accepts(headers, entry.first("content-encoding")):
        return None
    if conditions.not_modified(headers, entry, now):
        pairs = tuple(conditions.headers_of_304(entry.headers))
        return _made(entry, _NOT_MODIFIED, pairs, b"", now)
    if method == "GET" and "range" in headers and entry.status in {_OK, _PARTIAL}:
        return _part(entry, headers, now)
    return whole(entry, now) if entry.part is None else None


def all_of(entry: Entry, headers: Headers, now: float) -> Response | None:
    """Return all that is stored, whatever part or state of it a request asks for.

    Returns:
        None where that isn't all there is, or can't be read.
    """
    if entry.part is not None or not accepts(headers, entry.first("content-encoding")):
        return None
    return whole(entry, now)


def _part(entry: Entry, headers: Headers, now: float) -> Response | None:
    length = entry.part[2] if entry.part is not None else len(entry.body)
    span = ranges.wanted(headers, length) if ranges.applies(headers, entry, now) else None
    if span is None:
        return whole(entry, now) if entry.part is None else None
    if span == ranges.UNSATISFIABLE:
        pairs: Pairs = (("content-range", f"bytes */{length}"),)
        return _made(entry, _UNSATISFIABLE, pairs, b"", now)
    body = ranges.cut(entry, span)
    if body is None:
        return None
    kept = [pair for pair in entry.headers if pair[0] != "content-range"]
    pairs = (*kept, ("content-range", f"bytes {span[0]}-{span[1]}/{length}"))
    return _made(entry, _PARTIAL, pairs, body, now)


def accepts(headers: Headers, coding: str) -> bool:
    """Say whether a client can read a content in the coding in which it is stored (12.5.3).

    The upstream was asked for none. What it sent in one that isn't registered it sends to
    everybody.
    """
    if coding.lower() not in _CODINGS:
        return True
    wanted = headers.get("accept-encoding")
    if wanted is None:
        return True
    weights = dict(map(_weighed, members((wanted.lower(),))))
    return weights.get(coding.lower(), weights.get("*", 0.0)) > 0


def _weighed(member: str) -> tuple[str, float]:
    """Return a coding and its weight (RFC 9110 section 12.4.2); 0 where that can't be read."""
    name, separator, rest = member.partition(";")
    weight = WEIGHT.match(rest.strip(" \t"))
    if weight is None:
        return name.rstrip(" \t"), 0.0 if separator else 1.0
    return name.rstrip(" \t"), float(weight[1])


def _made(entry: Entry, code: int, pairs: Pairs, body: bytes, now: float) -> Response:
    response = Response(code, Headers(pairs), body)
    response.headers["age"] = str(int(entry.aged(now)))
    response.headers["cache-status"] = status.hit(entry.fresh_until - now)
    return response
