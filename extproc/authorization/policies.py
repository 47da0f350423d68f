"""Policies: deny wins over allow, no allow means deny, an error never allows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.expressions.conditions import Condition, EvaluationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.expressions.conditions import Context


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


class Policy:
    """A named list of rules; a decision is a pure function of the names that they read."""

    def __init__(self, name: str, rules: tuple[Rule, ...], candidate: Policy | None = None) -> None:
        self.name = name
        self.rules = rules
        self.candidate = candidate

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Return every condition, the candidate's included."""
        own = tuple(rule.condition for rule in self.rules)
        return own if self.candidate is None else own + self.candidate.conditions

    @property
    def reads_body(self) -> bool:
        """Say whether any condition reads the request's body."""
        return any("request.body" in c.expression.names for c in self.conditions)

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


def judged(policies: Iterable[Policy], context: Context) -> Decision:
    """Judge by several policies, of which each must allow.

    Raises:
        MalformedRequest: the request can't be decoded.
    """
    rules = []
    for policy in policies:
        decision = policy.decide(context)
        if isinstance(decision, Deny):
            return decision
        rules.append(decision.rule)
    return Allow(",".join(rules))


def consumer_of(consumers: Iterable[tuple[str, Condition]], context: Context) -> str:
    """Return the class of client: what the credential says, else the first that holds.

    An error is not true.

    Raises:
        MalformedRequest: the request can't be decoded.
    """
    named = context.request.principal.consumer
    if named:
        return named
    for name, condition in consumers:
        with suppress(EvaluationFailed):
            if condition.holds(context):
                return name
    return ""
