"""Routes: a match, its chain, and the key by which Envoy and the service name it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extproc.core.chain import Chain
from extproc.core.law import Side
from extproc.core.messages import Continue
from extproc.core.values import MalformedRequest, decoded
from extproc.core.verdict import LARGEST_WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable


_NEITHER = re.compile("[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path as the gateway file writes it: literals, `{name}` segments, a trailing `/*`.

    Attributes:
        text: as written.
        segments: each literal, or the name of a parameter in braces.
        open_ended: whether a trailing `/*` stands for all that lies below.
        has_params: whether there is anything to decode.
    """

    text: str
    segments: tuple[str, ...]
    open_ended: bool
    has_params: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look once."""
        found = any(segment.startswith("{") for segment in self.segments)
        object.__setattr__(self, "has_params", found)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Cut a pattern (its syntax was checked when the gateway file was loaded)."""
        open_ended = text.endswith("/*")
        body = text[:-2] if open_ended else text
        return cls(text, tuple(body.split("/")[1:]), open_ended)

    def params(self, path: str) -> dict[str, str]:
        """Return the decoded parameters of a path that matches.

        Raises:
            MalformedRequest: a parameter isn't UTF-8.
        """
        return {
            pattern[1:-1]: decoded(segment)
            for pattern, segment in zip(self.segments, path.split("/")[1:], strict=False)
            if pattern.startswith("{")
        }

    def matches(self, path: str) -> bool:
        """Say whether a normalised path, without query, matches."""
        segments = path.split("/")[1:]
        count = len(self.segments)
        fits = len(segments) > count if self.open_ended else len(segments) == count
        return path.startswith("/") and fits and all(map(_segment_matches, self.segments, segments))


def _segment_matches(pattern: str, segment: str) -> bool:
    return bool(segment) if pattern.startswith("{") else pattern == segment


def spelt(name: str) -> str:
    """Return what a header's name has in common with all that may be taken for it.

    In lower case with `-` for whatever is no letter or digit: CGI writes all of those as `_`.
    """
    return _NEITHER.sub("-", name.lower())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Route:
    """One route of one version of the gateway file.

    Attributes:
        name: as in the gateway file.
        version: of the gateway file.
        pattern: what its path looks like.
        chain: the plugins.
        deadline: seconds that the service may take for one message, all hooks together.
        hidden: headers that the upstream gets from nobody but the service, as `spelt`. Where
            Envoy's configuration is ours it removes them.
        largest: bytes of a response that plugins may see whole. Envoy has one bound for both
            sides, so where requests may be larger it lets more through.
        counters: of its exchanges, by how they ended.
        key: `route@version`: what Envoy sends as identity and accepts as verdict.
        passes: the answer that lets a request through as it came.
    """

    name: str
    version: str
    pattern: PathPattern
    chain: Chain
    deadline: float
    hidden: frozenset[str] = frozenset()
    largest: int = LARGEST_WHOLE
    counters: dict[str, Callable[[int], object]] = field(default_factory=dict, compare=False)
    key: str = field(init=False)
    passes: Continue = field(init=False)

    def __post_init__(self) -> None:
        """Name the route once."""
        key = f"{self.name}@{self.version}"
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "passes", Continue(Side.REQUEST, verdict=key))

    def hides(self, name: str) -> bool:
        """Say whether a header as a client spelled it may be taken for a hidden one."""
        return bool(self.hidden) and spelt(name) in self.hidden

    def params(self, path: str) -> dict[str, str]:
        """Return the path's parameters.

        Raises:
            MalformedRequest: a parameter isn't UTF-8, or the path isn't this route's.
        """
        if not self.pattern.has_params:
            return {}
        if not self.pattern.matches(path):
            raise MalformedRequest("the path is not this route's")
        return self.pattern.params(path)


class Running:
    """Tells on which routes that are out of force exchanges go on: nobody else has those routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.name: weakref.ref(route) for route in routes}

    @property
    def names(self) -> set[str]:
        """Return the routes, by name."""
        return {name for name, route in self._routes.items() if route() is not None}


class Routes:
    """Every route of every version that is in force, by key."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def find(self, key: str) -> Route | None:
        """Return the route with this key."""
        return self._routes.get(key)

    def add(self, routes: Iterable[Route]) -> None:
        """Put a version's routes in force beside those there are."""
        self._routes = self._routes | {route.key: route for route in routes}

    def drop(self, version: str) -> Running:
        """Take a version out of force; exchanges that run keep their route."""
        gone = [route for route in self._routes.values() if route.version == version]
        self._routes = {k: r for k, r in self._routes.items() if r.version != version}
        return Running(gone)

    def __len__(self) -> int:
        """Return how many routes are in force."""
        return len(self._routes)
