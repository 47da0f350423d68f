"""Cookies on a cached route: what the upstream doesn't get makes no difference to its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from extproc.core.values import Request


class OnlyCookies(Plugin):
    """Lets through only some cookies; the cache behind it keys what is left.

    Attributes:
        names: of the cookies that the upstream gets.
    """

    names: tuple[str, ...] = ()

    def on_request(self, request: Request) -> None:
        """Leave the others out, for later plugins too."""
        sent = request.headers.get_all("cookie")
        if not sent:
            return
        pairs = [pair.strip() for line in sent for pair in line.split(";")]
        kept = [pair for pair in pairs if pair.partition("=")[0].strip() in self.names]
        if kept:
            request.headers["cookie"] = "; ".join(kept)
        else:
            del request.headers["cookie"]
