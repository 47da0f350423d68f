"""Judging a decision record again, by other policies: what the loop before a change asks.

Only what the record holds is known. An expression that reads something else is not guessed: the
outcome is then unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeGuard

from extproc.authorization.policies import Allow, Deny, consumer_of, judged
from extproc.core.headers import Headers
from extproc.core.principal import Principal
from extproc.core.values import MalformedRequest, Request
from extproc.expressions.conditions import Context
from extproc.expressions.inputs import MAPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from extproc.authorization.policies import Decision, Policy
    from extproc.expressions.conditions import Condition, Expression


@dataclass(frozen=True, slots=True)
class Unknown:
    """It can't be told.

    Attributes:
        reads: what the record doesn't hold.
    """

    reads: str


def is_record(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a value has the form of a decision record, as far as judging it again needs."""
    if not isinstance(value, dict) or not isinstance(value.get("decision"), str):
        return False
    inputs = value.get("inputs")
    named = all(isinstance(value.get(name), str | None) for name in ("route", "by"))
    if not named or not isinstance(inputs, dict | None):
        return False
    return all(_fits(name, held) for name, held in (inputs or {}).items())


def _fits(name: str, value: object) -> bool:
    """Say whether an input has the type that its name has in conditions."""
    if name.startswith("principal.claims."):
        return True
    if name == "request.time":
        return isinstance(value, str) and _moment(value) is not None
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if name in {"absent", "principal.scopes"} or name.startswith("request.queries."):
        return texts
    return isinstance(value, str) or (texts and name.startswith("request.query."))


def _moment(text: str) -> float | None:
    """Return seconds since the epoch; None for what is no moment, or says no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()


def again(
    record: Mapping[str, Any],
    consumers: Sequence[tuple[str, Condition]],
    policies: Sequence[Policy],
) -> Decision | Unknown:
    """Judge a record by these consumers and policies."""
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        return Unknown("inputs")
    conditions = [condition for _, condition in consumers]
    conditions += [rule.condition for policy in policies for rule in policy.rules]
    unknown = missing((condition.expression for condition in conditions), inputs)
    if unknown:
        return Unknown(unknown)
    context = context_of(inputs)
    try:
        context.request.consumer = consumer_of(consumers, context)
        return judged(policies, context)
    except MalformedRequest:
        return Deny("", "malformed")


def missing(expressions: Iterable[Expression], inputs: Mapping[str, Any]) -> str:
    """Return the first thing that an expression reads and the record doesn't hold."""
    absent = inputs.get("absent", ())
    for expression in expressions:
        for name in expression.names:
            if name == "consumer":
                continue
            if name not in MAPS:
                if name not in inputs:
                    return name
                continue
            keys = expression.reads.keys(name)
            if keys is None:
                return name
            for key in keys:
                if f"{name}.{key}" not in inputs and f"{name}.{key}" not in absent:
                    return f"{name}.{key}"
    return ""


def context_of(inputs: Mapping[str, Any]) -> Context:
    """Return what expressions are evaluated over: the recorded request, at its moment."""
    return Context(_remembered(inputs), _moment(inputs.get("request.time", "")) or 0.0)


def _remembered(inputs: Mapping[str, Any]) -> Request:
    """Make a request that answers every recorded name as the recorded one did."""
    request = _Recorded(inputs)
    for name, value in inputs.items():
        part, _, field = name.partition(".")
        if part == "request" and field in _FIELDS:
            setattr(request, field, value)
    principal = {
        field: inputs[f"principal.{field}"]
        for field in ("kind", "authenticator", "subject", "issuer", "consumer")
        if f"principal.{field}" in inputs
    }
    request.principal = Principal(
        **({"kind": "anonymous"} | principal),
        scopes=tuple(inputs.get("principal.scopes", ())),
        claims=_map(inputs, "principal.claims"),
    )
    return request


_FIELDS = frozenset({"method", "scheme", "host", "path", "address", "route"})


def _map(inputs: Mapping[str, Any], name: str) -> dict[str, Any]:
    prefix = name + "."
    return {key[len(prefix) :]: value for key, value in inputs.items() if key.startswith(prefix)}


class _Recorded(Request):
    """A request whose maps are those of a record."""

    __slots__ = ("_inputs",)

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        headers = Headers(_map(inputs, "request.headers").items())
        super().__init__(headers=headers, request_id=inputs.get("request.id", ""))
        self._inputs = inputs
        self.params = _map(inputs, "request.params")

    @property
    def queries(self) -> dict[str, list[str]]:
        """Return the recorded parameters; one that was sent several times has a list."""
        several: dict[str, list[str]] = _map(self._inputs, "request.queries")
        read = _map(self._inputs, "request.query").items()
        return {k: v if isinstance(v, list) else [v] for k, v in read} | several


@dataclass(frozen=True, slots=True)
class Change:
    """What a record's judgement was and would be.

    Attributes:
        route: the route.
        was: decision and rule.
        would: decision and rule; `unknown` and what isn't recorded.
    """

    route: str
    was: tuple[str, str]
    would: tuple[str, str]


def compared(record: Mapping[str, Any], decision: Decision | Unknown) -> Change | None:
    """Return what changes; None where decision stays the same, whatever the rule."""
    route, was = str(record.get("route")), str(record.get("decision"))
    rule = str(record.get("rule") or record.get("reason") or "")
    match decision:
        case Unknown(reads=reads):
            return Change(route, (was, rule), ("unknown", reads))
        case Allow(rule=by):
            return None if was == "allow" else Change(route, (was, rule), ("allow", by))
        case Deny(rule=by, reason=reason):
            return None if was == "deny" else Change(route, (was, rule), ("deny", by or reason))
