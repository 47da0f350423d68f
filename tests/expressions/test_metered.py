"""What an expression looks through has a budget; within it everything is as CEL has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.values import Request
from extproc.expressions import metered
from extproc.expressions.conditions import (
    Context,
    EvaluationFailed,
    NotAnExpression,
    compile_expression,
)
from extproc.expressions.metered import BUDGET, TOO_MUCH
from extproc.expressions.names import environment
from tests.support.expressions import ENVIRONMENT, value, with_bounds

# Of a text, a list and what else a client sends: each took from one second to more than a minute.
AGAIN = [
    "b.l.exists(x, b.t.contains(x))",
    "b.l.exists(x, b.t.contains('x'))",
    "b.l.exists(x, b.t.matches('(a|b)*c'))",
    "b.l.exists(x, matches(b.t, 'c$'))",
    "b.l.exists(x, b.t.size() == 3)",
    "b.l.exists(x, size(b.t) == 3)",
    "b.l.exists(x, b.t.split('b').size() == 3)",
    "b.l.exists(x, b.t.indexOf(x) == 3)",
    "b.l.exists(x, b.t.lastIndexOf('x') == 3)",
    "b.l.exists(x, b.t.lowerAscii() == x)",
    "b.l.exists(x, b.t.upperAscii() == x)",
    "b.l.exists(x, b.t.substring(3) == x)",
    "b.l.exists(x, b.t.charAt(3) == x)",
    "b.l.exists(x, b.t.reverse() == x)",
    "b.l.exists(x, b.t.trim() == x)",
    "b.l.exists(x, b.t.replace('x', 'y') == x)",
    "b.l.exists(x, b.t + x == x)",
    "b.l.exists(x, x + b.t == x)",
    "b.l.exists(x, string(bytes(b.t)) == x)",
    "b.l.exists(x, strings.quote(b.t) == x)",
    "b.l.exists(x, '%s'.format([b.t]) == x)",
    "b.l.exists(x, [b.t].join() == x)",
    "b.l.exists(x, b.l == b.m && x == '')",
    "b.l.all(x, b.l != b.m && x != '')",
    "b.l.exists(x, (b.l + b.l).size() == 1)",
    "b.l.exists(x, b.l in [b.m, []])",
    "b.l.exists(x, double(b.d) == 2.5)",
    "b.l.exists(x, duration(b.u) == duration('2s'))",
    "b.l.exists(x, b.t.split('').size() == 3)",
    "b.l.exists(x, b.t.split('b', 3).size() == 3)",
    "b.l.exists(x, b.t.split(x).size() == 3)",
    "b.l.exists(x, [b.l] in [[b.m], []])",
    "b.l.exists(x, [b.l] in [[b.m], []] || x == 'z')",
    "b.l.all(x, !b.t.contains(x))",
    "b.l.exists_one(x, b.t.contains(x))",
    "b.l.exists(x, ['u', 'v'].exists(y, b.t.contains(y)))",
    "['u', 'v'].exists(y, b.l.exists(x, b.t.contains(x)))",
    "b.l.exists(x, [b.t].exists(y, y.contains(x)))",
    "b.l.map(x, b.t.contains(x)).size() == 1",
    "b.l.filter(x, b.t.contains(x)).size() == 1",
    "b.l.exists(x, x != '' || b.t.contains(x)) ? b.l.exists(x, b.t.contains(x)) : true",
]
ONCE = [
    "b.t.contains(b.n)",
    "b.t.indexOf(b.n) == 1",
    "b.t.lastIndexOf(b.n) == 1",
    "b.t.matches(b.p)",
    "'a'.matches(b.p)",
    "b.h.split('').size() == 3",
    "b.h.split(b.e).size() == 3",
]


def body(size: int, elements: int) -> dict[str, Any]:
    """Return what a client sends."""
    listed = [f"{number:x}" for number in range(elements)]
    return {
        "l": listed,
        "m": [*listed[:-1], "?"],
        "t": "z" * size,
        "n": "z" * (size // 2) + "b",
        "p": "z" * (size // 8),
        "d": "1" * size,
        "u": "1h" * (size // 2),
        "h": "1" * (size * 2),
        "e": "",
    }


@pytest.mark.parametrize("source", AGAIN + ONCE)
def test_b9_what_looks_through_too_much_has_no_value(source: str) -> None:
    """B9: a budget, and an error at once where it is spent; a smaller body has its value."""
    assert value(source, body(100, 10)) in {True, False}
    with pytest.raises(EvaluationFailed) as caught:
        value(source, body(300_000, 900))
    assert caught.value.problem == TOO_MUCH
    # Nothing went on behind it: at most what was under way is beyond the budget.
    assert -metered._meter.left < (1 << 32 if source in ONCE else BUDGET)
    assert value(source, body(100, 10)) in {True, False}


@pytest.mark.parametrize("source", [source for source in AGAIN if "b.t.contains(x)" in source])
def test_a_loop_ends_where_the_budget_does(source: str) -> None:
    """Also one whose steps would give a value: what it gives then means nothing."""
    with pytest.raises(EvaluationFailed):
        value(source, body(2_000_000, 900))
    # Each step pays for one text and one letter or more; two loops may stand in one another.
    assert -metered._meter.left < 3 * 2_200_000


@pytest.mark.parametrize(
    "source",
    [
        "b.t.contains(b.n)",
        "b.l.exists(x, b.t.lowerAscii() == x)",
        "b.l.exists(x, b.l == b.m && x == '')",
        "b.l.exists(x, b.t + x == x)",
    ],
)
def test_nothing_is_kept_of_what_was_paid_for(source: str) -> None:
    """The runtime keeps whatever it calls a Python function with: no value, then, and no number."""
    expression = compile_expression(source, parts=("b",))
    b = body(100_000, 20) | {"n": "y", "l": ["x" * 1000] * 20, "m": ["x" * 1000] * 19 + ["y"]}
    context = Context(Request(), parts={"b": b})
    sizes = []
    for _ in range(2):
        for _ in range(200):
            assert expression.value(context) is False
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert sizes[1] - sizes[0] < 5 << 20


def test_an_error_that_is_no_matter_does_not_hide_it() -> None:
    """Something true beside an error is true, but not what a loop that was ended gives."""
    source = "b.l.exists(x, b.t.contains(x)) || true"
    assert value(source, body(100, 10)) is True
    with pytest.raises(EvaluationFailed):
        value(source, body(300_000, 900))


@pytest.mark.parametrize(
    ("source", "b"),
    [
        ("b.l.all(x, b.t != x)", body(300_000, 5000)),
        ("b.l.all(x, !b.t.startsWith(x + '?'))", body(300_000, 5000)),
        ("b.l.all(x, b.l.size() == 5000)", body(9, 5000)),
        ("b.l.all(x, x in {'0': b} || true)", body(300_000, 5000)),
        ("b.l.all(x, x.matches('^[0-9a-f]+$'))", body(300_000, 5000)),
        ("!b.t.contains('b')", body(1_000_000, 1)),
        ("b.t.reverse() == b.t", body(1_000_000, 1)),
        ("b.l != b.m", body(1, 100_000)),
        ("b.h.split('2')[0] == b.h", body(500_000, 1)),
        ("b.h.split('1', 3).size() == 3", body(2_000_000, 1)),
        ("b.l.map(x, b.t).size() == 900", body(3000, 900)),
        ("b.l.filter(x, b.t != x).size() == 900", body(3000, 900)),
        ("b.l.map(x, {'t': b.t}).map(y, y.t).size() == 900", body(3000, 900)),
        ("[1, 2, 3, 4].all(n, b.l.map(x, x).size() == 990)", body(10, 990)),
        ("b.l.all(x, b.t.split(',').size() == 1)", body(1000, 5000)),
    ],
)
def test_what_costs_little_is_free(source: str, b: Any) -> None:
    """The size of a list, texts that are compared; one look through a long text."""
    assert value(source, b) is True


TEXTS = st.text("abc", max_size=5)
VALUES = st.recursive(
    TEXTS | st.integers(-3, 3) | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=6,
)
BODIES = st.fixed_dictionaries(
    {"l": st.lists(TEXTS | VALUES, max_size=4)},
    optional={
        "m": st.lists(TEXTS, max_size=4) | VALUES,
        "t": TEXTS | VALUES,
        "n": TEXTS | VALUES,
        "p": TEXTS | VALUES,
        "d": st.sampled_from(["2.5", "x"]) | VALUES,
        "u": st.sampled_from(["2s", "x"]) | VALUES,
        "h": TEXTS | VALUES,
        "e": TEXTS | VALUES,
    },
)


@given(st.sampled_from(AGAIN + ONCE), BODIES)
def test_within_it_nothing_differs(source: str, b: dict[str, Any]) -> None:
    """The value, its type, and whether there is one, whatever kind the values are of."""
    plain = ENVIRONMENT.compile(source)
    ours = with_bounds(plain)
    assert ours.metered
    assert ours.compiled.return_type().name() == plain.return_type().name()
    found = metered.paid(lambda: ours.compiled.eval(data={"b": b}))
    expected = plain.eval(data={"b": b})
    assert found.type().name() == expected.type().name()
    if found.type().name() != "ERROR":
        assert str(found) == str(expected)


@pytest.mark.parametrize(
    "source",
    [
        "b.t.contains('a')",
        "b.l.exists(x, x == 'a')",
        "b.l.exists(x, x in ['a', 'b'])",
        "b.l.exists(x, 'abc'.lowerAscii() == 'abc')",
        "b.l == b.m && b.t + b.n == ''",
        "b.l.all(x, x.startsWith(b.t))",
    ],
)
def test_what_looks_through_little_is_left_as_it_is(source: str) -> None:
    """There is nothing to pay for."""
    plain = ENVIRONMENT.compile(source)
    assert with_bounds(plain) == (plain, False, False)


@pytest.mark.parametrize("name", ["@contains", "@going", "@size", "contains for", "@@in"])
def test_nobody_else_can_call_them(name: str) -> None:
    """The names are none that an expression may have."""
    with pytest.raises(NotAnExpression):
        compile_expression(f"{name}('a')")


def test_many_lists_that_are_gathered_have_a_bound() -> None:
    """The runtime keeps all copies of each: ten of a thousand elements take 160 MB."""
    with pytest.raises(EvaluationFailed) as caught:
        value(f"{[*range(9)]}.all(n, b.map(x, x).size() == 990)", [1] * 990)
    assert caught.value.problem == TOO_MUCH


@pytest.mark.parametrize(
    "source",
    [
        "request.time == timestamp('1970-01-01T00:00:07Z') && b.exists(x, x.lowerAscii() == 'a')",
        "b.exists(x, x.lowerAscii() == 'a' && string(request.time) == '1970-01-01T00:00:07Z')",
        "request.time.getSeconds('UTC') == 7 && b.all(x, x.split('').size() == 1)",
    ],
)
@pytest.mark.parametrize("taken", [None, {}])
def test_a_moment_may_be_read_beside(source: str, taken: Any) -> None:
    """The time of a request is a value for what is metered as well."""
    environment.cache_clear()  # whatever was compiled before
    context = Context(Request(), 7.0, parts={"b": ["A"]}, taken=taken)
    assert compile_expression(source, parts=("b",)).value(context) is True


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("b.all(i, i.contains(i))", "no matching overloads found : (int64).contains(int64)"),
        ("b.all(i, i.reverse() == '')", "no matching overloads found : (int64).reverse()"),
        ("b.all(i, i.size() == 1)", "no matching overloads found : (int64).size()"),
    ],
)
def test_why_there_is_no_value(source: str, problem: str) -> None:
    """An error of the runtime's names what the expression calls."""
    with pytest.raises(EvaluationFailed) as caught:
        value(source, [1])
    assert caught.value.problem == problem
