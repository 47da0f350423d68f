"""Policies: deny wins over allow, no allow means deny, an error never allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.expressions.conditions import EvaluationFailed

if TYPE_CHECKING:
    from extproc.expressions.conditions import Condition, Context


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        name: for records.
        condition: when it applies.
        denies: whether it denies or allows.
        reason: for the record; empty for the default.
        detail: for the client; empty for none.
    """

    name: str
    condition: Condition
    denies: bool
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """The policy lets the request through."""

    rule: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The policy refuses the request."""

    rule: str
    reason: str
    detail: str = ""


Decision = Allow | Deny


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of rules."""

    name: str
    rules: tuple[Rule, ...]

    def decide(self, context: Context) -> Decision:
        """Judge one request.

        An allow rule that has no value doesn't allow; a deny rule that has none denies.

        Raises:
            MalformedRequest: the request can't be decoded.
        """
        allowed: Allow | None = None
        for rule in self.rules:
            if rule.denies:
                denied = _denies(rule, context)
                if denied is not None:
                    return denied
            elif allowed is None and _allows(rule, context):
                allowed = Allow(rule.name)
        return allowed or Deny("", "no_rule_allows")


def _allows(rule: Rule, context: Context) -> bool:
    try:
        return rule.condition.holds(context)
    except EvaluationFailed:
        return False


def _denies(rule: Rule, context: Context) -> Deny | None:
    try:
        if rule.condition.holds(context):
            return Deny(rule.name, rule.reason or "denied", rule.detail)
    except EvaluationFailed:
        return Deny(rule.name, "policy_error")
    return None
