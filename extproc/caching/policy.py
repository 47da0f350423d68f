"""What a route adds to the RFC: lifetimes where a response names none, and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Policy:
    """A route's own rules; the default is the RFC alone.

    Attributes:
        ttl: seconds, where a response names no lifetime; None to guess as the RFC does.
        min_ttl: seconds; a shorter lifetime is this long.
        max_ttl: seconds; a longer lifetime is this long.
        force_ttl: seconds, whatever the response names; None to believe it.
        statuses: seconds by status, where a response names no lifetime.
        stale_while_revalidate: seconds, where the response names none.
        stale_if_error: seconds, where the response names none.
        largest: bytes of a body that is stored.
        shared: nothing of who is calling can be in a response.
    """

    ttl: float | None = None
    min_ttl: float = 0.0
    max_ttl: float | None = None
    force_ttl: float | None = None
    statuses: Mapping[int, float] = field(default_factory=dict)
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    largest: int = LARGEST
    shared: bool = False
