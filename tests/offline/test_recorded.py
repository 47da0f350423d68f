"""A recorded request, rule by rule, against a gateway file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from extproc.config.build import assemble
from extproc.config.load import load
from extproc.offline.recorded import NotRecorded, explained, found
from tests.offline.gateways import written

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = {
    "principal.scopes": ["orders:read"],
    "principal.claims.tier": "gold",
    "principal.claims.client_id": "mobile-app",
    "principal.kind": "jwt",
    "absent": ["principal.claims.suspended", "principal.claims.nothing"],
}


def record(**changes: object) -> dict[str, Any]:
    """Return a record of a denied request."""
    usual: dict[str, object] = {
        "request_id": "r-1",
        "route": "order",
        "decision": "deny",
        "reason": "no_rule_allows",
        "by": "authorize",
        "version": "old",
        "inputs": INPUTS,
    }
    return usual | changes


def test_each_rule_is_judged_again(tmp_path: Path) -> None:
    """What was, what would be, and by which rule."""
    told: dict[str, Any] = dict(explained(assemble(load(written(tmp_path), {})), record()))
    assert told["was"] == {"decision": "deny", "rule": "no_rule_allows"}
    assert told["would"] == {"decision": "allow", "rule": "reader"}
    rules = {rule["name"]: rule for rule in told["rules"]}
    assert [(n, r["result"]) for n, r in rules.items()] == [
        ("reader", "true"),
        ("suspended", "false"),
        ("broken", "error"),
        ("gold", "true"),
    ]
    assert rules["reader"]["decided"]
    assert told["consumers"][0].startswith("mobile: true")


def test_what_was_not_recorded_is_unknown(tmp_path: Path) -> None:
    """A rule that reads it isn't guessed."""
    inputs = {k: v for k, v in INPUTS.items() if k != "principal.claims.tier"}
    assembly = assemble(load(written(tmp_path), {}))
    told: dict[str, Any] = dict(explained(assembly, record(inputs=inputs)))
    assert {r["name"]: r["result"] for r in told["rules"]}["gold"] == "unknown"
    less = {k: v for k, v in inputs.items() if k != "principal.scopes"}
    told = dict(explained(assembly, record(inputs=less)))
    assert told["would"] == {"decision": "unknown", "rule": "principal.scopes was not recorded"}
    assert {r["name"]: r["result"] for r in told["rules"]}["reader"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"route": "gone"}, "no route gone"),
        ({"route": None}, "no route took it"),
        ({"inputs": None}, "no inputs"),
    ],
)
def test_what_cannot_be_explained(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    """Is said, with the reason."""
    with pytest.raises(NotRecorded, match=why):
        explained(assemble(load(written(tmp_path), {})), record(**changes))


def test_the_last_record_of_an_id_is_taken() -> None:
    """Other lines may be anything."""
    lines = [
        b"not json r-1\n",
        b'{"level": "info", "request_id": "r-1"}\n',
        orjson.dumps(record(version="1")),
        orjson.dumps(record(version="2")),
        orjson.dumps(record(request_id="r-12")),
    ]
    assert found(lines, "r-1")["version"] == "2"
    with pytest.raises(NotRecorded):
        found(lines, "r-2")
