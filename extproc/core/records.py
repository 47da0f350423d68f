"""What is recorded of each exchange the service judged: the decision record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.core.values import Request


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


class Record(NamedTuple):
    """One exchange, when the service's part of it is done.

    Attributes:
        request: as plugins left it.
        version: of the gateway file that decided, or that Envoy named where it isn't in force.
        decision: allow, deny or error.
        status: of the response, where the service saw or made one.
        by: the plugin that answered; empty for the upstream.
        reason: of a denial or error; empty otherwise.
        seconds: from the first message to the end.
    """

    request: Request
    version: str
    decision: str
    status: int | None
    by: str
    reason: str
    seconds: float


class Recorder(Protocol):
    """Where decision records go."""

    def record(self, record: Record) -> None:
        """Take one; must not wait."""
