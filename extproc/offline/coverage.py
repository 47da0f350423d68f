"""Which policy rules were ever true in a run of tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from extproc.offline.explaining import policies_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.authorization.policies import Policy
    from extproc.config.build import Assembly
    from extproc.offline.explaining import RuleSeen

Named = tuple[str, str, str]


class Coverage:
    """Counts, for each enforced rule of each gateway file, the tests in which it was true."""

    def __init__(self) -> None:
        self._true: Counter[Named] = Counter()

    def expect(self, gateway: str, assembly: Assembly) -> None:
        """Take note of every rule that a gateway file's routes enforce."""
        for plugin in assembly.plugins():
            for policy in policies_of(plugin):
                self._true.update(dict.fromkeys(_names(gateway, policy), 0))

    def take(self, gateway: str, rules: Iterable[RuleSeen]) -> None:
        """Count the rules that were true in one test."""
        for rule in rules:
            if rule.result == "true" and not rule.candidate:
                self._true[gateway, rule.policy, rule.name] += 1

    @property
    def rules(self) -> int:
        """Return how many rules there are."""
        return len(self._true)

    @property
    def never(self) -> list[Named]:
        """Return the rules that were true in no test."""
        return [rule for rule, count in self._true.items() if count == 0]


def _names(gateway: str, policy: Policy) -> Iterable[Named]:
    return [(gateway, policy.name, rule.name) for rule in policy.rules]
