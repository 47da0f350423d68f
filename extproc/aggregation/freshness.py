"""How long a composed answer is fresh: no longer than any of its parts (RFC 9111 section 4.2).

What a part says is read by the cache that the calls go through; here it is added up.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.core.ports import Answered

_OF_CLIENT = frozenset({"accept-language"})


class Freshness:
    """Gathers what the parts say.

    Args:
        ttl: seconds, for parts that say nothing; None where nothing stands in for that.

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
        if said.lifetime is None and self._ttl is None:
            self._shared = None  # and nobody is told more
            return
        self._shared = self._least(self._shared, said.lifetime, answer.old)
        self._clients = self._least(self._clients, said.clients, answer.old)

    def _least(self, known: float | None, more: float | None, old: float) -> float | None:
        left = self._ttl if more is None else max(more - old, 0.0)
        return None if known is None or left is None else min(known, left)

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
