"""How long a composed answer is fresh: no longer than any of its parts (RFC 9111 section 4.2).

What a part says is read by the cache that the calls go through; here it is added up.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.core.answered import Answered

_OF_CLIENT = frozenset({"accept-language"})


class Freshness:
    """Gathers what the parts say.

    Args:
        ttl: seconds, for parts that name no lifetime; None where nothing stands in for that.

    Attributes:
        whole: nothing was missing, nothing stale: it may be stored as complete.
        tags: of all parts, each once.
        varies: headers that calls pass on from the client as they are, and that select a part.
    """

    def __init__(self, ttl: float | None) -> None:
        self._ttl = ttl
        # Seconds; None where a part doesn't say how many.
        self._shared: float | None = inf
        self._clients: float | None = inf
        self._demands: set[str] = set()
        self.whole = True
        self.tags: dict[str, None] = {}
        self.varies: frozenset[str] = frozenset()

    def took(self, answer: Answered) -> None:
        """Take note of one part's answer."""
        self.named(answer)
        said = answer.reuse
        if answer.stale:
            self.whole = False
            return
        if said is None:  # nobody read it
            self._demands.add("no-store")
            return
        if said.demands:
            self._demands |= said.demands
        if said.varies:
            self.varies |= said.varies & _OF_CLIENT
        left = self._left(said.lifetime, said.guess, answer.old)
        if left is None:
            self._shared = None  # and nobody is told more
            return
        self._shared = _least(self._shared, left)
        clients = self._left(said.clients, said.guess, answer.old)
        self._clients = None if clients is None else _least(self._clients, clients)

    def _left(self, lifetime: float | None, guess: float | None, old: float) -> float | None:
        """Return for how long a part is good; what the file says comes before a guess."""
        if lifetime is None and self._ttl is not None:
            return self._ttl
        known = guess if lifetime is None else lifetime
        return None if known is None else max(known - old, 0.0)

    def named(self, answer: Answered) -> None:
        """Take note of the names of what is part of the answer, or isn't there to be."""
        if answer.tags:
            self.tags.update(dict.fromkeys(answer.tags))

    def unsafe(self) -> None:
        """Take note of a call that may have changed something: the answer is for this request."""
        self._demands.add("no-store")

    def control(self, *, private: bool) -> str | None:
        """Return `Cache-Control`; None where the parts say nothing.

        Args:
            private: the answer is for one principal, and whoever stores it doesn't know that.
        """
        if not self.whole or "no-store" in self._demands:
            return "no-store"
        parts = ["private"] if private or "private" in self._demands else []
        if "no-cache" in self._demands:
            parts.append("no-cache")
        else:
            parts += self._lifetimes(private="private" in parts)
        return ", ".join(parts) or None

    def _lifetimes(self, *, private: bool) -> Iterator[str]:
        shared, clients = self._shared, self._clients
        if shared is None or shared == inf:
            return
        if clients is not None:
            yield f"max-age={int(min(shared, clients))}"
        if not private and (clients is None or clients < shared):
            yield f"s-maxage={int(shared)}"
        if "must-revalidate" in self._demands:
            yield "must-revalidate"


def _least(known: float | None, more: float) -> float | None:
    return None if known is None else min(known, more)
