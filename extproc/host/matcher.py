"""Which route a request takes where Envoy doesn't match it for us (ext_authz).

The path is what another's Envoy made of it, so it must be one that every server reads the same
way; and the method is one that the route takes, whoever chose the route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.config.schema import Route as RouteModel
from extproc.config.schema.shapes import is_method
from extproc.core.routes import PathPattern
from extproc.core.values import MalformedRequest, Response, decoded
from extproc.envoy_config.matching import in_order, methods_of, takes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.config.build import Assembly
    from extproc.config.schema import Match
    from extproc.core.headers import Headers
    from extproc.core.routes import Route, Routes
    from extproc.core.values import Request

# What RFC 3986 section 3.3 lets stand in a path and Envoy's normalisation leaves as it is. Without
# `;`, from which on some servers read no more of a segment.
_WRITTEN = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@%\[\]-]*)+")
_DOTS = re.compile(r"/\.{1,2}(?:/|\Z)")
# Neither `%` and something else, nor what other servers decode before they look at the path:
# unreserved characters (RFC 3986 section 2.3), `/`, `\` and NUL.
_ESCAPE = re.compile(
    r"%(?!00|2[DEF]|3[0-9]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AE])[0-9A-F]{2}", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Table:
    """The routes of one version, most specific first and by name."""

    ordered: tuple[tuple[RouteModel, PathPattern], ...]
    named: Mapping[str, RouteModel]


class Matcher:
    """Matches by host, path and method, as the compiled routes do."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._tables: dict[str, _Table] = {}

    def use(self, assembly: Assembly) -> None:
        """Match by this version from now on."""
        routes = assembly.loaded.gateway.routes
        ordered = tuple((r, PathPattern.parse(r.match.path)) for r in in_order(routes))
        # The newest is the last, also where it was in force before.
        self._tables.pop(assembly.loaded.version, None)
        self._tables[assembly.loaded.version] = _Table(ordered, {r.name: r for r in routes})

    def forget(self, version: str) -> None:
        """Match by what is left: this version goes out of force."""
        self._tables.pop(version, None)

    def match(self, request: Request, named: str = "") -> Route | Response | None:
        """Find the route of a request.

        Args:
            request: as it came.
            named: `route@version`, or `route` for its newest version; empty to match by path.

        Returns:
            The route; the answer where none may take the request; None where the one that is
            named isn't in force.
        """
        if not is_normal(request.path):
            return Response.malformed("The path can be read in more than one way.")
        if not is_method(request.method):
            return Response.malformed("The method isn't written as methods are.")
        if named:
            return self._named(request, *named.split("@", 1))
        return self._by_path(request)

    def _named(
        self, request: Request, name: str, version: str | None = None
    ) -> Route | Response | None:
        version = self._newest if version is None else version
        table = self._tables.get(version)
        model = table.named.get(name) if table is not None else None
        if model is None:
            return None
        if not takes(model.match, request.method):
            return _method_refused(methods_of(model.match) or ())
        return self._routes.find(f"{name}@{version}")

    def _by_path(self, request: Request) -> Route | Response | None:
        version = self._newest
        query = request.query
        fitting = []
        table = self._tables.get(version)
        for route, pattern in table.ordered if table is not None else ():
            if not (
                pattern.matches(request.path) and _host_matches(route.match.host, request.host)
            ):
                continue
            if takes(route.match, request.method) and _conditions_hold(
                route.match, request.headers, query
            ):
                return self._routes.find(f"{route.name}@{version}")
            fitting.append(route.match)
        return _refused(fitting, request.method)

    @property
    def _newest(self) -> str:
        return next(reversed(self._tables), "")


def is_normal(path: str) -> bool:
    """Say whether every server reads a path the same way; else it must be refused."""
    if not _WRITTEN.fullmatch(path) or "//" in path or _DOTS.search(path):
        return False
    if "%" not in path:
        return True
    try:
        decoded(path)
    except MalformedRequest:
        return False
    return len(_ESCAPE.findall(path)) == path.count("%")


def _refused(matches: Iterable[Match], method: str) -> Response:
    """Return the answer where routes for the path take another method, or have conditions."""
    allowed = dict.fromkeys(m for match in matches for m in methods_of(match) or ())
    if not allowed or method in allowed:
        return Response.problem(404, "Not found", reason="no_route")
    return _method_refused(allowed)


def _method_refused(allowed: Iterable[str]) -> Response:
    response = Response.problem(405, "Method not allowed", reason="method_not_allowed")
    response.headers["allow"] = ", ".join(allowed)  # RFC 9110 section 15.5.6
    return response


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
