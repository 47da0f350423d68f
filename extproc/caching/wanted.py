"""A call that what is stored may answer."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from extproc.caching.asking import NOTHING, Asks
from extproc.caching.changes import tag_of
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from extproc.core.answered import Answered
    from extproc.core.ports import Names
    from extproc.core.room import Room


class Wanted:
    """One call.

    Attributes:
        key: of what is stored.
        upstream: as for `CachedCaller.call`.
        target: as for `CachedCaller.call`.
        timeout: as for `CachedCaller.call`.
        until: by the monotonic clock, when that is over; None before somebody waits.
        max_bytes: as for `CachedCaller.call`.
        room: as for `CachedCaller.call`.
        stale_if_error: as for `CachedCaller.call`.
        about: as for `CachedCaller.call`.
        kind: what it has in common with others; None for nothing.
        usable: as for `CachedCaller.call`.
        asked: what is demanded of what is stored.
    """

    __slots__ = (
        "_headers",
        "_pairs",
        "about",
        "asked",
        "key",
        "kind",
        "max_bytes",
        "room",
        "stale_if_error",
        "target",
        "timeout",
        "until",
        "upstream",
        "usable",
    )

    def __init__(
        self,
        key: tuple[str, ...],
        upstream: str,
        target: str,
        pairs: Sequence[tuple[str, str]],
        timeout: float | None,
        max_bytes: int | None,
        room: Room | None,
        stale_if_error: float,
        about: Callable[[], Names] | None,
        kind: tuple[str, str] | None,
        usable: Callable[[Answered], bool] | None,
        max_age: float,
    ) -> None:
        self.key = key
        self.kind = kind
        self.usable = usable
        self.about = about
        self.asked = NOTHING if max_age == inf else Asks(no_cache=max_age < 0, max_age=max_age)
        self.upstream = upstream
        self.target = target
        self.timeout = timeout
        self.until: float | None = None
        self.max_bytes = max_bytes
        self.room = room
        self.stale_if_error = stale_if_error
        self._pairs = pairs
        self._headers: Headers | None = None

    @property
    def tag(self) -> str:
        """Return what every answer to it can be purged by."""
        return tag_of(self.upstream, self.target)

    @property
    def headers(self) -> Headers:
        """Return what the call sends; a call of which nothing is stored is never asked."""
        if self._headers is None:
            self._headers = Headers([(name.lower(), value) for name, value in self._pairs])
        return self._headers

    def left(self, now: float) -> float | None:
        """Return the seconds that are left of its timeout; None for the upstream's own.

        Args:
            now: by the monotonic clock.

        Raises:
            UpstreamFault: none are left.
        """
        if self.until is None:
            return self.timeout
        if self.until <= now:
            raise UpstreamFault("timeout", "it was waited for until there was no time to ask")
        return self.until - now

    def is_usable(self, answer: Answered) -> bool:
        """Say whether an answer is what it must be.

        To judge costs as much as to read it, so only what would be stored is judged, and what
        something stored may stand in for.
        """
        return self.usable is None or self.usable(answer)
