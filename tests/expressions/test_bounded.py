"""Lists that an expression builds have a bound; everything else is as CEL has it."""

from __future__ import annotations

from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.values import Request
from extproc.expressions.bounded import MOST, bounded
from extproc.expressions.conditions import Context, EvaluationFailed, compile_expression

ENVIRONMENT = cel.NewEnv(variables={"b": cel.Type.DYN})
BUILDING = [
    "b.map(i, i)",
    "b.filter(i, i == i)",
    "b.map(i, i == i, i)",
    "b.map(i, i).size()",
    "b.map(i, i)[0]",
    "[1, b.filter(i, true)]",
    "{'a': b.map(i, i)}",
    "{b.map(i, i)[0]: 1}",
    "[1].map(i, b.map(j, j))",
    "b.map(i, i).all(i, i == i)",
    "true && b.filter(i, true) == b",
    "b.map(i, i) == b ? 1 : 2",
    "{'a': b.map(i, i)}.a",
]


def value(source: str, b: Any) -> Any:
    """Return what an expression gives."""
    return compile_expression(source, parts=("b",)).value(Context(Request(), parts={"b": b}))


@pytest.mark.parametrize("source", BUILDING)
def test_a_list_that_is_built_has_a_bound(source: str) -> None:
    """Wherever it stands: past it there is no value; at it there is."""
    assert value(source, [1] * MOST) is not None
    with pytest.raises(EvaluationFailed):
        value(source, [1] * (MOST + 1))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("b.all(i, i == 1)", True),
        ("b.exists(i, i == 2)", False),
        ("b.exists_one(i, i == 2)", False),
        ("b.size()", 5000),
        ("(b + b).size()", 10_000),
        ("b.filter(i, i == 2)", []),
        ("true || b.map(i, i).size() > 1", True),
    ],
)
def test_what_builds_no_long_list_has_none(source: str, expected: object) -> None:
    """To go through a long list is fine, and so is to find little in it."""
    assert value(source, [1] * 5000) == expected


@given(st.sampled_from(BUILDING), st.lists(st.integers(-9, 9) | st.text(max_size=3), max_size=6))
def test_below_it_nothing_differs(source: str, b: list[Any]) -> None:
    """The value, its type, and whether there is one."""
    plain = ENVIRONMENT.compile(source)
    ours = bounded(ENVIRONMENT, plain)
    assert ours is not plain
    assert ours.return_type().name() == plain.return_type().name()
    assert str(ours.eval(data={"b": b})) == str(plain.eval(data={"b": b}))


def test_what_builds_nothing_is_left_as_it_is() -> None:
    """There is nothing to bound."""
    plain = ENVIRONMENT.compile("b.all(i, i == 1) && {'a': [1]}.a == b")
    assert bounded(ENVIRONMENT, plain) is plain
