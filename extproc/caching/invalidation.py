"""What an unsafe request makes void (RFC 9111 section 4.4, RFC 9875 section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from extproc.caching.keys import target_with
from extproc.caching.making import groups
from extproc.caching.marks import TAG, URI, Mark
from extproc.caching.responses import Responses
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.core.ports import Services
    from extproc.core.values import Request, Response

# Methods known to be safe (RFC 9110 section 9.2.1 and the registry); all others may change things.
SAFE = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"}
)
_NO_ERROR = range(200, 400)

Parameters = frozenset[str] | None


def marks(request: Request, response: Response, keyed: Iterable[Parameters]) -> list[Mark]:
    """Return what a response to an unsafe request makes void.

    Args:
        request: the request.
        response: what came of it.
        keyed: for each kind of key, the query parameters that count.
    """
    if request.method in SAFE or response.status not in _NO_ERROR:
        return []
    found = []
    for path, query in _places(request, response):
        for parameters in keyed:
            uri = f"{request.scheme}://{request.host}{_target(path, query, parameters)}"
            found.append(Mark(URI, uri))
    origin = f"{request.scheme}://{request.host}/"
    named = groups(response.headers, "cache-group-invalidation", origin)
    return [*found, *[Mark(TAG, group) for group in named]]


def _places(request: Request, response: Response) -> Iterator[tuple[str, str]]:
    """Yield path and query of what may have changed: the target, and where it says so."""
    yield request.path, request.query
    for name in ("location", "content-location"):
        value = response.headers.get(name)
        if value is None:
            continue
        try:
            parts = urlsplit(urljoin(request.target, value))
            host = parts.hostname
        except ValueError:
            continue
        if host is None or host == request.host:  # another origin can't invalidate ours
            yield parts.path or "/", parts.query


def _target(path: str, query: str, parameters: Parameters) -> str:
    if parameters is not None:
        return target_with(parameters, path, query)
    return f"{path}?{query}" if query else path


class Invalidate(Plugin):
    """Makes stored responses of other routes void where this route takes unsafe methods.

    Attributes:
        keyed: the parameters that count in the keys of the routes that overlap this one.
    """

    keyed: tuple[Parameters, ...]

    def on_start(self, services: Services) -> None:
        """Take what is stored."""
        self._responses = services.shared(Responses)

    def on_response(self, request: Request, response: Response) -> None:
        """Make void what the request changed."""
        self._responses.mark(marks(request, response, self.keyed))
