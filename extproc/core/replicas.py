"""The port to what replicas share: stored responses, and marks that make them void."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class SharedMark:
    """That stored responses are void or stale, as replicas tell each other.

    Attributes:
        kind: `all`, `uri` or `tag`.
        name: of the URI or tag.
        soft: makes stale, not void.
        sequence: its place among all; 0 until it has one.
        own: it was made by this replica, which knows it already.
    """

    kind: str
    name: str
    soft: bool
    sequence: int = 0
    own: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """What replicas have under a name.

    Attributes:
        data: what is stored; None for nothing.
        lease: `mine` where this replica is to ask the upstream; `pass` where everybody is; empty
            where nobody knows; else another replica asks.
    """

    data: bytes | None = None
    lease: str = ""


class Replicas(Protocol):
    """Stored responses that replicas share. Whatever fails is a miss, never an error."""

    @property
    def trusted(self) -> bool:
        """Say whether all marks of other replicas, but the last second's, are known here."""

    @property
    def sequence(self) -> int:
        """Return the newest mark that is known here."""

    @property
    def generation(self) -> str:
        """Return which set of data the marks are counted in: another one after it was lost."""

    async def look(self, name: str, fields: Sequence[tuple[str, str]], *, lease: str) -> Looked:
        """Return what is stored; in one round trip.

        Args:
            name: of the key.
            fields: of the request, by which a variant is selected.
            lease: by which this replica would ask the upstream if there is nothing; empty for
                none.
        """

    async def lease(self, name: str) -> str:
        """Ask to be the one who asks the upstream; see `Looked.lease`."""

    def release(self, name: str, *, unshared: bool) -> None:
        """Give a lease back; what is unshared nobody waits for in the next seconds."""

    def keep(
        self, name: str, selecting: Sequence[tuple[str, str | None]], data: bytes, ttl: float
    ) -> None:
        """Store, soon."""

    def drop(self, name: str) -> None:
        """Forget, soon."""

    def mark(self, marks: Sequence[SharedMark]) -> None:
        """Tell other replicas, as soon as they can be reached."""

    async def told(self, seconds: float) -> bool:
        """Wait until all that was marked here before now is where others hear it.

        Args:
            seconds: at most.

        Returns:
            Whether it is; if not, it will be as soon as they can be reached.
        """

    def follow(
        self,
        heard: Callable[[Sequence[SharedMark], int], None],
        lost: Callable[[Sequence[SharedMark]], None],
    ) -> None:
        """Tell what others mark.

        Args:
            heard: takes marks in their order, and the sequence below which all is void.
            lost: nothing that was learned before holds; takes the marks made here that nobody
                was told of.
        """
