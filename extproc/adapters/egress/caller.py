"""The port `Caller` over a few links to the egress listener."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from extproc.adapters.egress.blocks import NotSendable, block
from extproc.adapters.egress.call import Call
from extproc.adapters.egress.link import Link
from extproc.adapters.http2.frames import MAX_FRAME
from extproc.adapters.http2.limits import Limits
from extproc.adapters.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from extproc.core.room import Room


_LONGEST = 60.0
_LARGEST = 8 << 20
_MOST_LINKS = 8
_BUSY = 256  # calls under way on every link, from which another one is opened

# Envoy's bounds on an upstream's headers come first; these are for Envoy itself.
_LIMITS = Limits(
    stream_window=1 << 20,
    connection_window=64 << 20,
    header_block=128 << 10,
    header_list=128 << 10,
    header_fields=256,
    continuations=16,
)


class EgressCaller:
    """Makes calls through Envoy: a header names the upstream, Envoy knows the endpoints.

    Links are made when they are needed and made anew when they are lost: Envoy may restart.
    """

    def __init__(self, address: str, max_bytes: int = _LARGEST, limits: Limits = _LIMITS) -> None:
        self._address = address
        self._max_bytes = max_bytes
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self._loop)
        self._links: list[Link] = []
        self._current: Link | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    def call(
        self,
        upstream: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float | None = None,
        max_bytes: int | None = None,
        room: Room | None = None,
        host: str = "",
    ) -> Call:
        """Make one call; see `Caller.call`."""
        most = max_bytes or self._max_bytes
        try:
            written = block(upstream, method, target, headers, len(body), timeout, host)
        except (NotSendable, UnicodeError) as error:
            return self._never("protocol", f"the request can't be written: {error}")
        if len(written) > MAX_FRAME:
            return self._never("too_large", "the request's headers are too large")
        made = Call(self._loop, written, body, most, room)
        seconds = _LONGEST if timeout is None else timeout
        if seconds <= 0:
            made.late()
            return made
        made.timer = self._timers.add(seconds, made.late)
        self._make(made)
        return made

    def _never(self, reason: str, detail: str) -> Call:
        call = Call(self._loop, b"", b"", 0)
        call.fail(reason, detail)
        return call

    def _make(self, call: Call) -> None:
        self._link().make(call)

    def _link(self) -> Link:
        """Return the link with the fewest calls; another one where all are busy."""
        current = self._current
        if current is not None and current.under_way < _BUSY and current.takes_more:
            return current
        self._current = link = self._another()
        return link

    def _another(self) -> Link:
        best = None
        for link in self._links:
            if link.takes_more and (best is None or link.under_way < best.under_way):
                best = link
        if best is not None and (best.under_way < _BUSY or len(self._links) >= _MOST_LINKS):
            return best
        return self._opened()

    def _opened(self) -> Link:
        link = Link(self._limits, self._loop, self._make, self._lost)
        self._links.append(link)
        task = self._loop.create_task(self._connected(link))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return link

    async def _connected(self, link: Link) -> None:
        address = self._address
        try:
            if address.startswith("unix:"):
                path = address.removeprefix("unix:")
                await self._loop.create_unix_connection(lambda: link, path)
            else:
                host, _, port = address.rpartition(":")
                await self._loop.create_connection(lambda: link, host.strip("[]"), int(port))
        except OSError:
            self._lost(link)
            link.not_connected()

    def _lost(self, link: Link) -> None:
        if self._current is link:
            self._current = None
        with suppress(ValueError):
            self._links.remove(link)

    async def close(self) -> None:
        """Close every connection."""
        self._timers.close()
        for task in list(self._connecting):
            task.cancel()
        for link in list(self._links):
            link.close()
        self._links.clear()
        await asyncio.sleep(0)
