"""What the rules of one request look through is bounded together."""

from __future__ import annotations

import json

import pytest

from extproc.authorization.plugin import AuthorizeBody
from extproc.authorization.policies import Policy, Rule
from extproc.expressions.conditions import condition
from extproc.expressions.inputs import Inputs
from extproc.expressions.metered import BUDGET
from extproc.testing import Trial

LOOPS = [f"request.body.l.exists(x, request.body.t.contains(x + '{n}'))" for n in range(8)]
LAST = "request.body.t.contains(request.body.n)"


@pytest.mark.parametrize(
    ("letters", "status"), [(1000, 200), (BUDGET // 200, 200), (BUDGET // 40, 401)]
)
async def test_b9_all_rules_have_a_bound(letters: int, status: int) -> None:
    """B9: each has a budget, and four times that all have; past it none allows."""
    rules = tuple(Rule(source, condition(source, body=True), False) for source in (*LOOPS, LAST))  # noqa: FBT003 - it allows
    subject = Trial(AuthorizeBody(policies=(Policy("p", rules),), inputs=Inputs([])))
    body = json.dumps({"l": ["b"] * 50, "t": "z" * letters, "n": "z"}).encode()
    headers = {"content-type": "application/json"}
    response = await subject.request("POST", "/", headers=headers, body=body)
    assert response.status == status
