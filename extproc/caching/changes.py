"""What an unsafe request makes void (RFC 9111 section 4.4, RFC 9875 section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from extproc.caching.keys import short
from extproc.caching.making import groups
from extproc.caching.marks import TAG, URI, Mark
from extproc.caching.parameters import target_with
from extproc.caching.uris import named, read, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.caching.parameters import Parameters
    from extproc.core.answered import Answered
    from extproc.core.headers import Headers
    from extproc.core.values import Request, Response

# Methods known to be safe (RFC 9110 section 9.2.1 and the registry); all others may change things.
SAFE = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"}
)
_NO_ERROR = range(200, 400)
_NOWHERE = "upstream.invalid"


def marks(
    request: Request, response: Response, keyed: Iterable[Parameters], upstream: str = ""
) -> list[Mark]:
    """Return what a response to an unsafe request makes void.

    Args:
        request: the request.
        response: what came of it.
        keyed: for each kind of key, the query parameters that count.
        upstream: that got it, where aggregates call that too; empty where none does.
    """
    if request.method in SAFE or response.status not in _NO_ERROR:
        return []
    origin = f"{request.scheme}://{request.host}"
    changed = [(request.path, request.query), *told(request.target, response.headers, request.host)]
    kinds = tuple(keyed)
    found = [Mark(URI, named(origin, kind, *place)) for place in changed for kind in kinds]
    grouped = groups(response.headers, "cache-group-invalidation", f"{origin}/")
    if upstream:
        target = request.rewritten or request.target
        found += _of_target(upstream, target, response.headers, request.host)
    return [*found, *[Mark(TAG, group) for group in grouped]]


def called(upstream: str, method: str, target: str, answer: Answered) -> list[Mark]:
    """Return what the answer to a call makes void among other calls' and what is made of those.

    Args:
        upstream: its name.
        method: of the call.
        target: path and query.
        answer: what came.
    """
    if method in SAFE or answer.status not in _NO_ERROR:
        return []
    return _of_target(upstream, target, answer.headers, _NOWHERE)


def _of_target(upstream: str, target: str, headers: Headers, host: str) -> list[Mark]:
    elsewhere = told(target, headers, host)
    places = [target, *[target_with(None, path, query) for path, query in elsewhere]]
    return [Mark(TAG, tag_of(upstream, place)) for place in places]


def tag_of(upstream: str, target: str) -> str:
    """Return the tag of the answers to calls of a target, and of all that is made of those.

    An empty query is none.
    """
    tag = f"{upstream}:{target}"
    if "%" in tag or tag[-1] == "?":
        tag = written(tag.removesuffix("?"))
    return short(tag)


def told(target: str, headers: Headers, host: str) -> Iterator[tuple[str, str]]:
    """Yield path and query of where an answer says that something changed.

    Args:
        target: of the request, to which references are relative.
        headers: of the answer.
        host: of which it may say so, as another origin can't invalidate ours.
    """
    for name in ("location", "content-location"):
        value = headers.get(name)
        if value is None:
            continue
        try:
            where, path, query = read(urljoin(f"http://{host}{target}", value), "latin-1")
        except ValueError:
            continue
        if where == host.strip("[]"):
            yield path, query
