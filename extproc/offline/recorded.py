"""A recorded request against the policies of a gateway file, rule by rule."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from extproc.authorization.plugin import Consumers
from extproc.authorization.policies import Allow, Deny
from extproc.authorization.replay import Unknown, again, context_of, is_record, missing
from extproc.offline.explaining import RuleSeen, policies_of, result_of, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from extproc.authorization.policies import Decision, Policy
    from extproc.config.build import Assembly
    from extproc.expressions.conditions import Condition, Context
    from extproc.offline.document import Plain

_TOLD = ("request_id", "time", "route", "method", "host", "path", "version", "consumer", "status")


class NotRecorded(LookupError):
    """There is nothing to explain; the message says why."""


def found(lines: Iterable[bytes], request_id: str) -> Mapping[str, Any]:
    """Return the last record of a request.

    Raises:
        NotRecorded: there is none.
    """
    wanted = request_id.encode()
    last: Mapping[str, Any] | None = None
    for line in lines:
        record = record_of(line) if wanted in line else None
        if record is not None and record.get("request_id") == request_id:
            last = record
    if last is None:
        raise NotRecorded(f"no record of the request {request_id}")
    return last


def record_of(line: bytes) -> Mapping[str, Any] | None:
    """Return a line's record; None for a line that is none (a log's, for example)."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if is_record(value) else None


def explained(assembly: Assembly, record: Mapping[str, Any]) -> Plain:
    """Judge a record again, rule by rule.

    Raises:
        NotRecorded: the record holds no inputs, or its route isn't in the gateway file.
    """
    route = str(record.get("route") or "")
    if not route:
        raise NotRecorded("no route took it: Envoy answered by itself, and the record says how")
    if route not in assembly.steps:
        raise NotRecorded(f"the gateway file has no route {route}")
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        raise NotRecorded("the record holds no inputs: no policy and no consumer was asked")
    plugins = [step.plugin for step in assembly.steps[route]]
    consumers = [pair for p in plugins if isinstance(p, Consumers) for pair in p.consumers]
    policies = [policy for plugin in plugins for policy in policies_of(plugin)]
    would = again(record, consumers, policies) if policies else Allow("")
    return {
        "record": {name: record.get(name) for name in _TOLD},
        "inputs": inputs,
        "consumers": list(_consumers(consumers, inputs)),
        "rules": [asdict(rule) for rule in _rules(consumers, policies, inputs)],
        "was": {
            "decision": str(record.get("decision")),
            "rule": str(record.get("rule") or record.get("reason") or ""),
        },
        "would": _words(would),
    }


def _consumers(
    consumers: Sequence[tuple[str, Condition]], inputs: Mapping[str, Any]
) -> Iterator[str]:
    context = context_of(inputs)
    for name, condition in consumers:
        known = not missing([condition.expression], inputs)
        result = result_of(condition, context) if known else "unknown"
        yield f"{name}: {result}  {condition.expression.source}"


def _rules(
    consumers: Sequence[tuple[str, Condition]],
    policies: Sequence[Policy],
    inputs: Mapping[str, Any],
) -> Iterator[RuleSeen]:
    """Yield each rule with what it gives; unknown where the record doesn't hold what it reads."""
    context = context_of(inputs)
    request = context.request
    request.consumer = request.principal.consumer or _first(consumers, context)
    unknown = {
        rule.condition.expression.source
        for policy in policies
        for rule in (*policy.rules, *(policy.candidate.rules if policy.candidate else ()))
        if missing([rule.condition.expression], inputs)
    }
    for seen in rules_of(policies, context):
        if seen.source in unknown:
            yield RuleSeen(**asdict(seen) | {"result": "unknown", "decided": False, "problem": ""})
        else:
            yield seen


def _first(consumers: Sequence[tuple[str, Condition]], context: Context) -> str:
    return next((name for name, when in consumers if result_of(when, context) == "true"), "")


def _words(decision: Decision | Unknown) -> dict[str, str]:
    match decision:
        case Unknown(reads=reads):
            return {"decision": "unknown", "rule": f"{reads} was not recorded"}
        case Allow(rule=rule):
            return {"decision": "allow", "rule": rule}
        case Deny(rule=rule, reason=reason):
            return {"decision": "deny", "rule": rule or reason}
