"""A decision log against another gateway file: what would change, grouped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from extproc.authorization.plugin import Authorize, AuthorizeBody, Consumers
from extproc.authorization.policies import Allow
from extproc.authorization.replay import Change, again, compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from extproc.authorization.policies import Policy
    from extproc.config.build import Assembly, Step
    from extproc.expressions.conditions import Condition

    type_of_judges = tuple[Sequence[tuple[str, Condition]], Sequence[Policy]]


_JUDGES = frozenset({"authorize", "authorizebody"})


@dataclass(slots=True)
class Outcome:
    """What came of a log.

    Attributes:
        records: how many there were.
        same: how many would be decided the same way.
        elsewhere: how many something else than policies decided.
        changes: how many of each change.
        examples: a request id of each.
    """

    records: int = 0
    same: int = 0
    elsewhere: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    examples: dict[Change, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Return how many would be decided another way."""
        return sum(n for change, n in self.changes.items() if change.would[0] != "unknown")

    @property
    def unknown(self) -> int:
        """Return of how many it can't be told."""
        return sum(n for change, n in self.changes.items() if change.would[0] == "unknown")


class Replay:
    """Judges records by the policies of a gateway file."""

    def __init__(self, assembly: Assembly) -> None:
        self._judges = {name: _judges(steps) for name, steps in assembly.steps.items()}
        self.outcome = Outcome()

    def take(self, record: Mapping[str, Any]) -> None:
        """Judge one record."""
        outcome = self.outcome
        outcome.records += 1
        decided_by_policy = record.get("decision") == "allow" or record.get("by") in _JUDGES
        if not decided_by_policy:
            outcome.elsewhere += 1
            return
        change = self._judged(record)
        if change is None:
            outcome.same += 1
            return
        outcome.changes[change] += 1
        outcome.examples.setdefault(change, str(record.get("request_id") or ""))

    def _judged(self, record: Mapping[str, Any]) -> Change | None:
        route = record.get("route")
        if route not in self._judges:
            was = (str(record.get("decision")), str(record.get("rule") or ""))
            return Change(str(route), was, ("no such route", ""))
        consumers, policies = self._judges[str(route)]
        if not policies:
            return compared(record, Allow(""))
        return compared(record, again(record, consumers, policies))


def _judges(steps: Sequence[Step]) -> type_of_judges:
    consumers: Sequence[tuple[str, Condition]] = ()
    policies: Sequence[Policy] = ()
    for step in steps:
        if isinstance(step.plugin, Consumers):
            consumers = step.plugin.consumers
        elif isinstance(step.plugin, Authorize | AuthorizeBody):
            policies = (*policies, *step.plugin.policies)
    return consumers, policies
