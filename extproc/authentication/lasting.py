"""The plugin that ends a WebSocket with the credential that opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from extproc.core.ports import Services
    from extproc.core.values import Request


class EndsWithCredential(Plugin):
    """Keeps hold of connections that switch protocols, to end them in the middle.

    Seeing what the client sends, in pieces, is what keeps Envoy's stream to this service open:
    when that ends with an error, Envoy resets the client's connection.
    """

    streaming: ClassVar[bool] = True

    def on_start(self, services: Services) -> None:
        """Take the list of those that last."""
        self._lasting = services.lasting

    def on_request(self, request: Request) -> None:
        """Watch a request that asks to switch protocols, unless nobody in particular sends it."""
        if request.principal.kind != "anonymous" and "upgrade" in request.headers:
            self._lasting.add(request)

    def on_request_body(self, request: Request, body: bytes) -> None:
        """Let every piece pass."""
