"""Lists that an expression builds have a bound; everything else is as CEL has it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.values import Request
from extproc.expressions.bounded import (
    MOST,
    MOST_LETTERS,
    TOO_LONG,
    TOO_MANY,
    TOO_MANY_LETTERS,
)
from extproc.expressions.conditions import (
    Condition,
    Context,
    EvaluationFailed,
    compile_expression,
    condition,
    together,
)
from tests.support.expressions import ENVIRONMENT, value, with_bounds

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
    "b.filter(i, string(i) != 'x' && i != 1.5 && i != b'y')",
]


@pytest.mark.parametrize("source", BUILDING)
def test_a_list_that_is_built_has_a_bound(source: str) -> None:
    """Wherever it stands: past it there is no value; at it there is."""
    assert value(source, [1] * MOST) is not None
    with pytest.raises(EvaluationFailed):
        value(source, [1] * (MOST + 1))


SEEKING = [
    "b.all(i, i in b)",
    "b.exists(i, !(i in b))",
    "b.all(i, b.exists(j, j in b))",
    "b.map(i, i in b).size() > 0",
    "b.filter(i, i in b).size() > 0",
    "[1, 1].all(i, [i].all(j, j in b))",
    "[1].all(i, i in b && i in [1])",
    "{'a': b}.all(k, 1 in {'a': b}[k])",
]


@pytest.mark.parametrize("source", SEEKING)
def test_what_is_gone_through_for_each_element_has_a_bound(source: str) -> None:
    """Ten thousand times a list of a body, a few thousand elements, took seconds."""
    assert value(source, [1, 1]) == value(source, [1] * 9) == (source != SEEKING[1])
    with pytest.raises(EvaluationFailed):
        value(source, [1] * (MOST + 1))


@pytest.mark.parametrize(
    ("source", "b"),
    [
        ("1 in b", [0] * 5000 + [1]),
        ("b.all(i, i in [1, 2])", [1] * 5000),
        ("['1', '2'].all(i, i in b)", {str(number): 0 for number in range(5000)}),
        ("[1, 2].all(i, i in b)", [1] * (MOST - 1) + [2]),
    ],
)
def test_what_is_found_at_once_or_sought_once_has_none(source: str, b: Any) -> None:
    """A key of a map, one thing in a long list, or many in a list that is written out."""
    assert value(source, b) is True


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("b.all(i, i in b)", TOO_MANY),
        ("b.map(i, i).size() > 1", TOO_LONG),
        ("b.all(i, b.all(j, i == j))", "it goes through too many elements"),
        ("principal.claims['x'] == 1", '"x" isn\'t there'),
        ("request.query.x", '"x" isn\'t there'),
        ("request.query['x'] == ''", '"x" isn\'t there'),
        ("b.x", '"x" isn\'t there'),
        ("b[9000]", "index error: index=9000 size=2000"),
        ("b + 1", "no matching overloads found : _+_(list, int64)"),
        ("int('x')", "cannot convert string to int"),
    ],
)
def test_why_there_is_no_value(source: str, problem: str) -> None:
    """In the runtime's words, or in plainer ones."""
    with pytest.raises(EvaluationFailed) as caught:
        value(source, [1] * 2000)
    assert caught.value.problem == problem


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


@given(
    st.sampled_from(BUILDING + SEEKING),
    st.lists(st.integers(-9, 9) | st.text(max_size=3), max_size=6),
)
def test_below_it_nothing_differs(source: str, b: list[Any]) -> None:
    """The value, its type, and whether there is one."""
    plain = ENVIRONMENT.compile(source)
    ours = with_bounds(plain).compiled
    assert ours is not plain
    assert ours.return_type().name() == plain.return_type().name()
    assert str(ours.eval(data={"b": b})) == str(plain.eval(data={"b": b}))


MULTIPLYING = [
    "b[0].replace('a', b[1])",
    "b[0].replace(b[2], b[1])",
    "b[0].replace('a', b[1], -1)",
    "b[0].replace('a', b[1], b.size())",
    "b[0].split('').join(b[1])",
    "b[0].split('').join(b[1]).replace('b', b[2])",
    "[b[0]].map(i, i.replace('a', b[1])) == [b[0], b[1]]",
    "[b[0]].all(i, i.replace('a', b[1]) == b[2].replace('a', b[1]))",
    "b[0] == 'a' || b[0].replace('a', b[1]).size() < 3",
]


@pytest.mark.parametrize("source", MULTIPLYING)
def test_b9_a_text_that_is_put_in_often_has_a_bound(source: str) -> None:
    """B9: two texts of a client are never multiplied beyond it; at it there is a value."""
    half = int(MOST_LETTERS**0.5)
    assert value(source, ["b" * half, "b" * half, ""]) is not None
    with pytest.raises(EvaluationFailed) as caught:
        value(source, ["b" * half * 2, "b" * half, ""])
    assert caught.value.problem == TOO_MANY_LETTERS


@given(st.sampled_from(MULTIPLYING), st.lists(st.text("ab", max_size=4), min_size=3, max_size=3))
def test_shorter_texts_are_as_they_were(source: str, b: list[Any]) -> None:
    """The value, its type, and whether there is one; each text is evaluated once."""
    plain = ENVIRONMENT.compile(source)
    ours = with_bounds(plain).compiled
    assert ours is not plain
    assert ours.return_type().name() == plain.return_type().name()
    assert str(ours.eval(data={"b": b})) == str(plain.eval(data={"b": b}))


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("b[0].replace('a', 'bb')", 2_000_000),
        ("'aba'.replace('a', b[0])", 2_000_001),
        ("b[0].replace('a', b[1], 2)", 1_000_998),
        ("b.join(', ')", 1_000_502),
        ("['a', 'a'].join(b[0])", 1_000_002),
    ],
)
def test_what_is_written_out_multiplies_nothing(source: str, size: int) -> None:
    """A text of a megabyte is replaced in, and is put in."""
    assert len(value(source, ["a" * 1_000_000, "b" * 500])) == size


def test_what_builds_nothing_is_left_as_it_is() -> None:
    """There is nothing to bound."""
    plain = ENVIRONMENT.compile("b.all(i, i == 1) && {'a': [1]}.a == b")
    assert with_bounds(plain) == (plain, False, False)


BODY = {"a": 1, "l": [1, 2], "big": [[]] * 100}


def conditions(*sources: str) -> list[Condition]:
    """Return conditions over a body that share what CEL makes of it."""
    made = [condition(source, body=True) for source in sources]
    together(one.expression for one in made)
    return made


def test_a_body_is_taken_over_once() -> None:
    """Whatever else each of them reads; what builds lists or reads the query keeps nothing."""
    sharing = conditions(
        "request.body.a == 1",
        "request.body.l.size() == 2 && request.method == 'GET'",
        "principal.subject == '' && request.body.a == 1",
        "!request.body.l.exists(x, string(x).contains(string(request.body.a) + '?'))",
        "request.body.l.filter(i, i == 1).size() == 1",
        "request.query.size() == 0 && request.body.a == 1",
        "request.method == 'GET'",
    )
    context = Context(Request(method="GET"), body=BODY, taken={})
    assert [one.holds(context) for one in sharing] == [True] * 7
    assert context.taken is not None
    shared = ("principal.subject", "request.body", "request.method")
    assert set(context.taken) == {shared, ("request.method",), ("request.query", "request.body")}


def test_what_changed_is_taken_over_anew() -> None:
    """A value that isn't the one that was taken over is never judged by the old one."""
    (one, two) = conditions("request.body.a == 1", "request.body.a == 1 && request.method == 'GET'")
    context = Context(Request(method="GET"), body=BODY, taken={})
    assert one.holds(context)
    assert two.holds(context)
    context.body = {"a": 2}
    assert not one.holds(context)
    context.body = BODY
    context.request.method = "POST"
    assert one.holds(context)
    assert not two.holds(context)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("request.body", lambda body: body),
        ("request.body.l", lambda body: body["l"]),
        (" request.body.m.n ", lambda body: body["m"]["n"]),
    ],
)
def test_a_member_of_a_body_is_read_without_a_copy(source: str, found: Any) -> None:
    """A large body isn't taken over for each hole that reads a member of it."""
    body = {"l": [1, 2], "m": {"n": {"o": None}}, "big": [[]] * 100}
    expression = compile_expression(source, body=True)
    assert expression.value(Context(Request(), body=body)) is found(body)
    others: tuple[Any, ...] = (None, [], {"l": 1}, {"m": 1})
    for other in others:
        plain = compile_expression(f"[{source}]", body=True)
        context = Context(Request(), body=other)
        try:
            expected = plain.value(context)[0]
        except EvaluationFailed:
            with pytest.raises(EvaluationFailed):
                expression.value(context)
        else:
            assert expression.value(context) == expected
