"""What an upstream answered to a call.

Those made for every exchange or call have their `__init__` written out: a dataclass's own is never
compiled (docs/decisions/0008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from extproc.core.headers import Headers


@dataclass(frozen=True, slots=True)
class Reuse:
    """What an answer says of its reuse, to whoever makes another one of it.

    Attributes:
        lifetime: seconds for which shared caches may give it, from when it was made; None where it
            names none.
        clients: the same for the caches of clients.
        demands: of `no-store`, `private`, `no-cache` and `must-revalidate` those that hold for it,
            whatever they were written as.
        varies: headers of the call, in lower case, that select it (RFC 9110 section 12.5.5).
        guess: seconds for which who is told no lifetime may give it (RFC 9111 section 4.2.2), from
            when it was made; None where there is nothing to guess by.
    """

    lifetime: float | None = None
    clients: float | None = None
    demands: frozenset[str] = frozenset()
    varies: frozenset[str] = frozenset()
    guess: float | None = None


@dataclass(slots=True, init=False)
class Answered:
    """What an upstream answered to a call; nobody changes it.

    Attributes:
        status: any.
        headers: as they came.
        body: bytes, decoded.
        lifetime: seconds from now for which a shared cache may give this answer again to whoever
            has the same identity; 0 for not at all.
        tags: by which it, and what is made of it, can be purged.
        stale: it was stored, and is no longer fresh.
        source: hit, stale, collapsed or miss, of a call through the cache; empty for a plain call.
        age: seconds since another worker got it; 0 where it was asked for now.
        reuse: what it says of its reuse, of a safe call through the cache; else None.
        old: seconds since it was made, of which its lifetimes are shorter now.
    """

    status: int
    headers: Headers
    body: bytes
    lifetime: float
    tags: tuple[str, ...]
    stale: bool
    source: str
    age: float
    reuse: Reuse | None
    old: float

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        lifetime: float = 0.0,
        tags: tuple[str, ...] = (),
        stale: bool = False,  # noqa: FBT001, FBT002 - a field
        source: str = "",
        age: float = 0.0,
        reuse: Reuse | None = None,
        old: float = 0.0,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.lifetime = lifetime
        self.tags = tags
        self.stale = stale
        self.source = source
        self.age = age
        self.reuse = reuse
        self.old = old


class Outstanding(Protocol):
    """A call that is under way at once, whoever waits for it; futures are such.

    If it has `promptly`, that calls back in the turn of the event loop in which the answer comes.
    If it has `through`, an answer that is still to come passes through a function first.
    """

    def done(self) -> bool:
        """Say whether there is an answer, or there will be none."""

    def result(self) -> Answered:
        """Return the answer of a call that is done.

        Raises:
            UpstreamFault: no usable answer.
        """

    def exception(self) -> BaseException | None:
        """Return why a call that is done has no usable answer; None where it has one."""

    def cancel(self) -> bool:
        """Give it up, at the upstream too; False if it is done."""
