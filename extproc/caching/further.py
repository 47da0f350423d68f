"""What stands before the cache, and tells caches further on what only this one's key knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.further import UNSEEN, alone, changed, vary, varying
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from extproc.core.values import Request, Response

_REDIRECT = 300
_NOT_MODIFIED = 304


class Further(Plugin):
    """Says by what an answer varies, stored or not, and that it is private where that isn't enough.

    Said behind the cache, it would select among what is stored, once for each value: the key has
    what is made of a header, which is the same for many.

    Attributes:
        varies: headers of the client that make a difference, in lower case; see `UNSEEN`.
        always: those of them that make one to redirects and errors too.
    """

    varies: frozenset[str] = frozenset()
    always: frozenset[str] = frozenset()

    def on_request(self, request: Request) -> None:
        """Take note of what plugins changed: a cache further on sees what the client sent."""
        request.state.changed = changed(request)

    def on_response(self, request: Request, response: Response) -> None:
        """Tell caches further on."""
        bare = response.status >= _REDIRECT and response.status != _NOT_MODIFIED
        names = self.always if bare else self.varies
        if not names and bare:
            return
        vary(response.headers, names)
        hidden = not varying(response.headers).isdisjoint(request.state.changed)
        if hidden or UNSEEN in names:
            alone(response.headers)
