"""Stored responses to methods with a body, where a route says that they change nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from extproc.caching.plugin import BY_BODY, Cache
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.caching.passage import Passage
    from extproc.core.values import Request, Response

_READ_AS = ("content-type", "content-encoding", "content-language")


class LookByBody(Plugin):
    """Looks when the body is there.

    Its digest is in the key, with the method and what says how the body is to be read: the same
    bytes as another type are another question. What stands behind waits for that: an aggregate
    that needs no body would have answered before anybody looked.

    Attributes:
        cache: stands before this one, and stores what passes.
    """

    judges_body: ClassVar[bool] = True
    cache: Cache

    def on_request_body(
        self, request: Request, body: bytes
    ) -> Response | Awaitable[Response | None] | None:
        """Answer from the store, if what is there may be reused."""
        passage: Passage | None = request.metadata.pop(BY_BODY, None)
        if passage is None:
            return None
        read_as = [passage.headers.get(name) for name in _READ_AS]
        digest = hashlib.sha256(body).hexdigest()
        return self.cache.look(request, passage, ("body", request.method, *read_as, digest))
