"""What plugins say of their part in an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Facts:
    """What plugins say of their part in an exchange.

    Attributes:
        reason: of a denial, where it is more precise than what the client reads.
        rule: the policy rule that decided; empty where none did.
        candidate: what the candidate policies would have decided, and by which rule.
        inputs: the values that the route's policies and consumers read, by name.
        absent: the names among them that had no value.
        cache: hit, miss, stale, and so on; empty without a cache.
        calls: what became of each call of an aggregate.
    """

    # Most exchanges leave most of these as they are.
    reason: str = ""
    rule: str = ""
    candidate: tuple[str, str] | None = None
    inputs: Mapping[str, Any] | None = None
    absent: tuple[str, ...] = ()
    cache: str = ""
    calls: list[dict[str, Any]] | None = None
