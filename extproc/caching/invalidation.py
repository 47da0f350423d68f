"""The plugin that makes void what an unsafe request changes on other routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching.changes import marks
from extproc.caching.responses import Responses
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from extproc.caching.parameters import Parameters
    from extproc.core.ports import Services
    from extproc.core.values import Request, Response


class Invalidate(Plugin):
    """Makes stored responses of other routes void where this route takes unsafe methods.

    Attributes:
        keyed: the parameters that count in the keys of the routes that overlap this one.
        upstream: that gets the requests, where aggregates call that too; empty where none does.
    """

    keyed: tuple[Parameters, ...]
    upstream: str = ""

    def on_start(self, services: Services) -> None:
        """Take what is stored."""
        self._responses = services.shared(Responses)

    def on_response(self, request: Request, response: Response) -> None:
        """Make void what the request changed."""
        self._responses.mark(marks(request, response, self.keyed, self.upstream))
