"""A judgement as plain values, credentials hidden: what `explain --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from extproc.offline.raw import Rejected
from extproc.offline.routing import Matched

if TYPE_CHECKING:
    from extproc.offline.edge import Arrival
    from extproc.offline.gate import Judgement
    from extproc.offline.masking import Mask
    from extproc.offline.routing import NotMatched
    from extproc.offline.trace import Step
    from extproc.offline.verdict import Verdict

Plain = dict[str, object]


def document(judgement: Judgement, mask: Mask) -> Plain:
    """Return everything that is told of a request."""
    told: Plain = {
        "version": judgement.version or None,
        "request": _request(judgement.arrival, mask),
        "route": _route(judgement.found),
        "steps": [_step(step, mask) for step in judgement.steps],
        "on_the_response": list(judgement.unseen),
        "verdict": _verdict(judgement.verdict, mask),
    }
    hidden = mask.everywhere(told)
    assert isinstance(hidden, dict)  # noqa: S101 - a mapping went in
    return hidden


def _request(arrival: Arrival | Rejected, mask: Mask) -> Plain:
    if isinstance(arrival, Rejected):
        return {
            "rejected": {
                "status": arrival.status,
                "reason": arrival.reason,
                "details": arrival.details,
                "why": arrival.why,
            }
        }
    return {
        "method": arrival.method,
        "scheme": arrival.scheme,
        "host": arrival.host,
        "path": arrival.path,
        "query": arrival.target.partition("?")[2],
        "address": arrival.address,
        "headers": [[name, mask.header(name, value)] for name, value in arrival.fields],
        "body_bytes": len(arrival.body) if arrival.framed else None,
        "changes": list(arrival.changes),
    }


def _route(found: Matched | NotMatched | None) -> Plain | None:
    if found is None:
        return None
    if isinstance(found, Matched):
        return {
            "name": found.route.name,
            "match": found.route.match.path,
            "virtual_host": found.virtual_host,
            "passed_over": list(found.passed_over),
        }
    return {
        "name": None,
        "status": found.status,
        "why": found.why,
        "allow": list(found.allow),
        "passed_over": list(found.passed_over),
    }


def _step(step: Step, mask: Mask) -> Plain:
    return {
        "plugin": step.plugin,
        "phase": step.phase,
        "outcome": step.outcome,
        "why": step.why,
        "changes": [_change(change, mask) for change in step.changes],
        "rules": [asdict(rule) for rule in step.rules],
        "reads": step.reads,
    }


def _change(change: str, mask: Mask) -> str:
    """Hide the value of a header that carries credentials."""
    name, colon, value = change.partition(": ")
    return f"{name}{colon}{mask.header(name, value)}" if colon else change


def _verdict(verdict: Verdict, mask: Mask) -> Plain:
    upstream = verdict.upstream
    sent = None
    if upstream is not None:
        headers = {name: mask.header(name, value) for name, value in upstream.headers.items()}
        sent = {"name": upstream.name, "target": upstream.target, "headers": headers}
    return {
        "decision": verdict.decision,
        "status": verdict.status if verdict.upstream is None else None,
        "by": verdict.by or None,
        "reason": verdict.reason or None,
        "rule": verdict.rule or None,
        "route": verdict.route or None,
        "consumer": verdict.consumer or None,
        "subject": verdict.subject or None,
        "authenticator": verdict.authenticator or None,
        "upstream": sent,
    }
