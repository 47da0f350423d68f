"""By what an answer that is made of calls may be purged, told before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.caching.keys import short
from extproc.caching.marks import TAG, URI
from extproc.caching.parameters import Parameters
from extproc.caching.uris import named
from extproc.core.values import MalformedRequest
from extproc.expressions.conditions import Context
from extproc.expressions.templates import NoValue, Template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.ports import Names
    from extproc.core.values import Request

_MOST = 256  # of the tags that one text with several lists gives


@dataclass(frozen=True, slots=True)
class Named:
    """Gives the names of a route's answers.

    Attributes:
        parameters: that count in the key of its stored responses.
        tags: of its stored responses. Those that read the response are left out: the calls are
            made before it is there.
    """

    parameters: Parameters = None
    tags: tuple[Template, ...] = ()

    def __post_init__(self) -> None:
        """Leave out what can't be told before."""
        told = [tag for tag in self.tags if not any(n.startswith("response.") for n in tag.names)]
        object.__setattr__(self, "tags", tuple(told))

    def __call__(self, request: Request, now: float) -> Names:
        """Return the names of the answer to a request."""
        origin = f"{request.scheme}://{request.host}"
        kinds = dict.fromkeys((None, self.parameters))
        uris = [named(origin, kind, request.path, request.query) for kind in kinds]
        tags = texts(self.tags, Context(request, now))
        return (*[(URI, short(uri)) for uri in uris], *[(TAG, short(tag)) for tag in tags])


def texts(tags: Iterable[Template], context: Context) -> list[str]:
    """Return the tags that templates give; of one that has no value nothing is said."""
    found: list[str] = []
    for template in tags:
        try:
            found += template.texts(context, _MOST)
        except (NoValue, MalformedRequest):
            continue
    return found
