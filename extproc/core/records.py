"""What is recorded of each exchange the service judged: the decision record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from extproc.core.values import Request, Response


@dataclass(slots=True, init=False)
class Record:
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

    def __init__(
        self,
        request: Request,
        version: str,
        decision: str,
        status: int | None,
        by: str,
        reason: str,
        seconds: float,
    ) -> None:
        self.request = request
        self.version = version
        self.decision = decision
        self.status = status
        self.by = by
        self.reason = reason
        self.seconds = seconds


class Recorder(Protocol):
    """Where decision records go."""

    def record(self, record: Record) -> None:
        """Take one; must not wait."""


def decision_of(response: Response) -> str:
    """Return what an answer made here decides: allow, deny or error."""
    if not response.reason:
        return "allow"
    return "error" if response.status >= 500 else "deny"  # noqa: PLR2004 - RFC 9110 section 15.6
