"""Finding the route of a request whose Envoy doesn't tell it, by our own reading of the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.routes import PathPattern
from extproc.envoy_config.matching import in_order, takes

if TYPE_CHECKING:
    from extproc.config.build import Assembly
    from extproc.config.schema import Match
    from extproc.config.schema import Route as RouteModel
    from extproc.core.headers import Headers
    from extproc.core.routes import Route, Routes
    from extproc.core.values import Request

_AMBIGUOUS = ("%2f", "%5c", "\\", "//", "%00", ";", "#")


class Matcher:
    """Matches by host, path and method, as the compiled routes do."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._ordered: list[tuple[RouteModel, PathPattern]] = []
        self._version = ""

    def use(self, assembly: Assembly) -> None:
        """Match by this version from now on."""
        loaded = assembly.loaded
        self._version = loaded.version
        self._ordered = [
            (route, PathPattern.parse(route.match.path))
            for route in in_order(loaded.gateway.routes)
        ]

    def match(self, request: Request) -> Route | None:
        """Return the route, or None: no route, or a path that has no single normal form."""
        path, _, query = request.target.partition("?")
        if not is_normal(path):
            return None
        for route, pattern in self._ordered:
            if (
                pattern.matches(path)
                and takes(route.match, request.method)
                and _host_matches(route.match.host, request.host)
                and _conditions_hold(route.match, request.headers, query)
            ):
                return self._routes.find(f"{route.name}@{self._version}")
        return None


def is_normal(path: str) -> bool:
    """Say whether every server reads a path the same way; else it must be refused."""
    lowered = path.lower()
    if any(piece in lowered for piece in _AMBIGUOUS) or not path.isascii():
        return False
    segments = lowered.replace("%2e", ".").split("/")
    return not any(segment in {".", ".."} for segment in segments)


def _host_matches(wanted: str | None, host: str) -> bool:
    if wanted is None or wanted == host:
        return True
    return wanted.startswith("*.") and host.endswith(wanted[1:])


def _conditions_hold(match: Match, headers: Headers, query: str) -> bool:
    """Compare headers and query parameters as they were sent, as Envoy does."""
    sent = dict(pair.partition("=")[::2] for pair in reversed(query.split("&")) if pair)
    return all(
        name in known if wanted is True else known.get(name) == wanted
        for known, conditions in ((headers, match.headers), (sent, match.query))
        for name, wanted in conditions.items()
    )
