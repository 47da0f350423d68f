"""CEL is given what of a map an expression reads: what it gives is what it gives for the whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.values import Request
from extproc.expressions.conditions import (
    Context,
    EvaluationFailed,
    compile_expression,
    condition,
    together,
)
from extproc.expressions.names import environment

READ = [
    "b.a == 1",
    "b.a",
    "b['a'] == b.c",
    'b["a"] == 1',
    "'a' in b",
    "!('a' in b) || b.a == 1",
    "has(b.a)",
    "has(b.a) && b.a.b == 2",
    "has(b.a.b)",
    "b.a.b.c == 1 || b['c'] == 'x'",
    "b . a == 1",
    "b.a == 1 // b.c",
    "b.a.exists(x, x == b.c)",
    "b.c in b.a",
    "b['\\x61'] == 1",
    "('a') in b && ('c') in (b)",
    "b[''] == 1 || '' in b",
    "b.a == 1 && has(.b.c)",
    "'a' in b ['c']",
    "b.`a` == 1",
    "b.`a//c` == 1 || has(b.c) || b.a == 2",
    """'\\'' == "x" || has(b.c) || b.a == 'z'""",
    """'''a\\'''' == 'x' || has(b.c) || b.a == 'z'""",
    "R'\\d' == 'x' || b'\\'' == b'x' || has(b.c) || b.a == 'z'",
    "[{'a': 1}].exists(b, b.a == 1) && .b.c == 1",
]
ANY = [
    "b",
    "b.all(k, k == 'a')",
    "b.size() == 1",
    "size(b) == 1 && b.a == 1",
    "b == {'a': 1}",
    "[b].exists(b, b.a == 1)",
    "b.exists(b, b == 'a') && b.a == 1",
    "b.map(k, k).size() == 1",
    "b[b.a] == 1",
    "{'x': b}.x.a == 1",
    "b[b'a'] == 1",
    "b[0] == 1",
    "'a' + 'b' in b",
    "b.a + 'b' in b",
    "b['a' + 'b'] == 1",
    "(true ? b : b).a == 1",
    "'a' in [b, b][0]",
]
NAMES = st.sampled_from(["a", "b", "c", "ab", "", "a//c"])
VALUES = st.recursive(
    st.sampled_from([1, 2, "x", "a", True, None, 1.5]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=8,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=4) | VALUES


@given(st.sampled_from(READ + ANY), BODIES)
def test_nothing_differs(source: str, b: Any) -> None:
    """The value, or that there is none, whatever the body is."""
    expression = compile_expression(source, parts=("b",))
    place = environment(False, ("b",), False)  # noqa: FBT003 - a cache key
    whole = place.compile(source).eval(data={"b": b})
    context = Context(Request(), parts={"b": b})
    if whole.type().name() == "ERROR":
        with pytest.raises(EvaluationFailed):
            expression.value(context)
    else:
        assert expression.value(context) == whole.plain_value()


@pytest.mark.parametrize(("source", "keys"), [(s, True) for s in READ] + [(s, False) for s in ANY])
def test_what_is_known_to_be_read(source: str, keys: bool) -> None:  # noqa: FBT001 - from a table
    """Where it may be any key, the whole is given."""
    known = compile_expression(source, parts=("b",)).keys["b"]
    assert (known is not None) == keys


_UNFIT: Any = {"a": 1, "c": 2, "d": "\ud800", "e": [[]] * 9}  # CEL refuses the whole of it
_FIT: Any = {"a": 1, "c": 2}


@pytest.mark.parametrize(
    ("sources", "body", "given"),
    [
        (
            [
                "request.body.a == 1",
                "request.body.c == 2 && request.body.a == 1",
                "'a' in request.body",
            ],
            _UNFIT,
            {"a": 1, "c": 2},
        ),
        (["request.body.a == 1", "request.body.size() == 2"], _FIT, _FIT),
    ],
    ids=["some", "any"],
)
def test_those_that_share_are_given_what_any_reads(
    sources: list[str], body: Any, given: Any
) -> None:
    """What nobody reads is no matter; where one may read any key, all get the whole."""
    sharing = [condition(source, body=True) for source in sources]
    together(one.expression for one in sharing)
    context = Context(Request(), body=body, taken={})
    assert all(one.holds(context) for one in sharing)
    assert context.taken is not None
    [(values, _)] = context.taken.values()
    assert values == [given]
