"""Closures give what the `jmespath` library gives, and end on hostile data."""

from __future__ import annotations

import json
import tracemalloc
from functools import partial
from typing import Any

import jmespath
import jmespath.functions
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from extproc.core.values import Request
from extproc.expressions import conditions, projections
from extproc.expressions.conditions import (
    Context,
    EvaluationFailed,
    NotAnExpression,
    compile_expression,
)
from extproc.expressions.projections import (
    Projection,
    ShapeFailed,
    TooMuch,
    Wanted,
    least_size,
    written,
)
from extproc.expressions.shaping import TooMuchWork
from extproc.expressions.templates import NoValue, as_text, template
from tests.support.calls import calls_of

NAMES = st.sampled_from(["a", "b", "c", "id"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["", "a", "1", "b"]),
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=20,
)
COMPARE = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
LITERALS = st.sampled_from(["`1`", "`0`", "`true`", "`false`", "`null`", "'a'", "`[]`", "`{}`"])
FUNCTIONS = st.sampled_from(
    ["length({})", "keys({})", "values({})", "to_string({})", "not_null({}, `1`)", "type({})",
     "sort({})", "reverse({})", "max({})", "sum({})", "to_array({})", "to_number({})", "abs({})",
     "map(&a, {})", "sort_by({}, &id)", "max_by({}, &id)", "contains({}, 'a')", "join('-', {})"]
)  # fmt: skip


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda e, n: f"{e}.{n}", inner, NAMES),
        st.builds(lambda e: f"{e}[]", inner),
        st.builds(lambda e, n: f"{e}[].{n}", inner, NAMES),
        st.builds(lambda e: f"{e}[*]", inner),
        st.builds(lambda e: f"{e}.*", inner),
        st.builds(lambda e, n: f"{e}[{n}]", inner, st.integers(-3, 3)),
        st.builds(lambda e: f"{e}[1:]", inner),
        st.builds(lambda e: f"{e}[::-1]", inner),
        st.builds(lambda e, n, c, x: f"{e}[?{n} {c} {x}]", inner, NAMES, COMPARE, LITERALS),
        st.builds(lambda e, n: f"{e}[?{n}].{n}", inner, NAMES),
        st.builds(lambda a, b: f"{a} || {b}", inner, inner),
        st.builds(lambda a, b: f"{a} && {b}", inner, inner),
        st.builds(lambda e: f"!({e})", inner),
        st.builds(lambda a, c, b: f"({a}) {c} ({b})", inner, COMPARE, inner),
        st.builds(lambda a, b: f"{a} | {b}", inner, inner),
        st.builds(lambda a, b: f"{{x: {a}, y: {b}}}", inner, inner),
        st.builds(lambda a, b: f"[{a}, {b}]", inner, inner),
        st.builds(lambda e, n: f"{e}[].{{n: {n}, all: @}}", inner, NAMES),
        st.builds(lambda f, e: f.format(e), FUNCTIONS, inner),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, st.just("@"), LITERALS), _grown, max_leaves=6)


@given(EXPRESSIONS, DATA)
def test_the_library_gives_the_same(source: str, data: Any) -> None:
    """Value for value, failure for failure; the library's own type errors are failures here."""
    try:
        compiled = jmespath.compile(source)
    except (JMESPathError, ValueError):
        return
    try:
        expected: Any = compiled.search(data)
    except (JMESPathError, TypeError, ValueError, AttributeError):
        expected = ShapeFailed
    try:
        found: Any = Projection(source).of(data)
    except ShapeFailed:
        found = ShapeFailed
    assert found is expected or json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("!a", {"a": 0}),
        ("!a", {"a": 0.0}),
        ("!a", {"a": ""}),
        ("a == `true`", {"a": 1}),
        ("a == `0`", {"a": False}),
        ("a || b", {"a": 0, "b": 1}),
        ("a && b", {"a": [], "b": 1}),
        ("a < b", {"a": "x", "b": "y"}),
        ("a < b", {"a": True, "b": 2}),
        ("a[?b].c", {"a": [{"b": 0, "c": 1}, {"b": [], "c": 2}]}),
        ("a.*", {"a": [1]}),
        ("{x: a}", None),
        ("a[-2]", {"a": [1]}),
    ],
)
def test_where_languages_differ(source: str, data: Any) -> None:
    """0 is true, numbers and booleans are never equal, what isn't there is null."""
    assert json.dumps(Projection(source).of(data)) == json.dumps(jmespath.search(source, data))


def test_unknown_functions_are_found_when_loading() -> None:
    """Not when the first request comes."""
    with pytest.raises(NotAnExpression, match="frobnicate"):
        Projection("frobnicate(a)")
    with pytest.raises(NotAnExpression, match="number of arguments"):
        Projection("lookup('a', b, c)")


@pytest.mark.parametrize(
    "source",
    [
        "a[?b[?c[?a[?b]]]]",
        "a[].a[].a[].a[].a[]",
        "map(&map(&map(&map(&@, a), a), a), a)",
        "sort_by(a[].a[].a[], &length(a[].a[]))",
    ],
)
def test_b9_much_work_ends(source: str) -> None:
    """B9: nested filters over adversarial data fail after a bounded number of steps."""
    data: Any = {"a": [], "b": [], "c": []}
    for _ in range(4):
        data = {"a": [data] * 60, "b": [data] * 60, "c": [data] * 60}
    with pytest.raises(TooMuch) as caught:
        Projection(source).of(data)
    assert isinstance(caught.value.__context__, TooMuchWork)


ROW = {"a": "1", "b": 2, "c": [1, 2], "d": "x" * 100}


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("a[].to_string(@)", 60_000),  # a call is twenty steps
        ("a[].{a: a, b: b, c: c, d: d}", 120_000),
        ("a[?a == '1' && b == `2` && d > 'y']", 120_000),
        ("a[].join(@.d, ['1', '2'])", 60_000),
    ],
)
def test_b9_what_is_done_with_each_counts(source: str, rows: int) -> None:
    """Not only how many there are: of as many, less can be done."""
    with pytest.raises(TooMuch):
        Projection(source).of({"a": [ROW] * rows})
    assert Projection("length(a[].a)").of({"a": [ROW] * rows}) == rows


@pytest.mark.parametrize(
    ("text", "separator", "pieces"),
    [("1,2", ",", ["1", "2"]), ("", ",", []), (",", ",", ["", ""]), ("ab", "", ["a", "b"])],
)
def test_a_text_is_cut(text: str, separator: str, pieces: list[str]) -> None:
    """JMESPath's community has this function (JEP 14)."""
    assert Projection("split(a, b)").of({"a": text, "b": separator}) == pieces


@pytest.mark.parametrize("value", [{"a": 1, "b": ","}, {"a": "1"}, {"a": ["1"], "b": ","}])
def test_nothing_but_a_text_is_cut(value: Any) -> None:
    """As every function refuses what it doesn't take."""
    with pytest.raises(ShapeFailed):
        Projection("split(a, b)").of(value)


@pytest.mark.parametrize(("text", "separator"), [("漢" * 5_000_000, ""), ("漢," * 2_000_000, ",")])
def test_b9_what_has_many_pieces_is_not_cut_first(text: str, separator: str) -> None:
    """They would take many times the memory of the text; what they are is known before."""
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch):
            Projection("split(a, b)").of({"a": text, "b": separator})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("separator", ["", ",", "x"])
def test_b9_a_long_text_is_not_cut(separator: str) -> None:
    """Each piece is a step, and so are eight letters."""
    with pytest.raises(TooMuch):
        Projection("split(a, b)").of({"a": "," * 9_000_000, "b": separator})


@pytest.mark.parametrize(
    "source",
    [
        "join(long, many)",
        "join('', many[].lookup('p', @).d)",
        "many[].to_string(lookup('p', @))",
        "many[?lookup('p', @) == lookup('q', @)]",
        "many[?contains(lookup('p', @).l, lookup('q', @))]",
    ],
)
def test_b9_one_long_text_many_times(source: str) -> None:
    """Nothing is made of it that is far larger than what came."""
    items = [{"d": "x" * 1_000_000, "l": [[n] for n in range(3000)]} for _ in range(2)]
    index = {"p": {"k": items[0]}, "q": {"k": items[1]}}
    with pytest.raises(TooMuch):
        Projection(source).of({"long": "x" * 1_000_000, "many": ["k"] * 20_000}, index.__getitem__)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), min_size=1))
def test_numbers_are_numbers_of_json(values: list[float]) -> None:
    """What functions make of finite numbers, and of any text of one, is finite or refused."""
    texts = [*map(str, values), *[f"{value}e300" for value in values], "inf", "-Infinity", "nan"]
    data = {"values": values, "texts": texts}
    whole = ["sum(values)", "avg(values)", "ceil(sum(values))", "floor(avg(values))"]
    for source in [*whole, *[f"abs(to_number(texts[{n}]))" for n in range(len(texts))]]:
        try:
            made = Projection(source).of(data)
        except ShapeFailed:
            continue
        assert json.loads(written({"made": made, "big": 1 << 70}))["made"] == made


@pytest.mark.parametrize("call", ["merge({}, @)", "merge(@, {})", "keys({})", "values({})"])
def test_b9_one_large_map_many_times(call: str) -> None:
    """What goes through its members costs a step for each; what takes it whole costs none."""
    index = {"p": {"k": {f"m{n}": n for n in range(1000)}}}
    found, many = "lookup('p', id)", {"lines": [{"id": "k"}] * 2000}
    with pytest.raises(TooMuch) as caught:
        Projection(f"lines[].{call.format(found)}").of(many, index.__getitem__)
    assert isinstance(caught.value.__context__, TooMuchWork)
    few = {"lines": many["lines"][:900]}
    assert len(Projection(f"lines[].{call.format(found)}").of(few, index.__getitem__)) == 900
    whole = Projection(f"lines[].not_null({found}, `0`)").of(many, index.__getitem__)
    assert len(whole) == 2000


@pytest.mark.parametrize(
    "value",
    [[[]] * 1_100_000, {"a": [[1] * 1000] * 1000, "b": 1}, {str(n): n for n in range(2**20)}],
)
def test_b9_a_value_is_counted_before_it_is_written(value: Any) -> None:
    """A text of it would be made before its letters could be counted."""
    assert not calls_of(jmespath.functions, partial(_refused, "to_string(@)", value))


def _refused(source: str, value: Any) -> None:
    with pytest.raises(TooMuch):
        Projection(source).of(value)


def test_b9_members_are_measured_without_a_look_at_each() -> None:
    """A map of scalars is measured at once, however many there are; look-ups copy whole maps."""
    small, large = ([{str(n): n for n in range(size)}] * 2 for size in (2, 2000))
    counted = [calls_of(projections, partial(least_size, value)) for value in (small, large)]
    assert counted[0] == counted[1]


def test_b9_an_answer_that_look_ups_make_large() -> None:
    """20,000 orders of one product of 1 MB would be 20 GB: said before it is written."""
    value = {"orders": ["k"] * 20_000}
    items = {"k": {"d": "x" * 1_000_000}}
    shape = Projection("orders[].{product: lookup('p', @)}")
    with pytest.raises(TooMuch) as caught:
        shape.of(value, lambda _part: items, read=1_100_000, most=16 << 20)
    assert caught.value.__context__ is None  # of the answer, not of the steps
    once = Projection("orders[?lookup('p', @).d > 'a'] | [0]")
    assert once.of(value, lambda _part: items, read=1_100_000, most=16 << 20) == "k"


@given(DATA, st.booleans())
def test_least_size_is_near(data: Any, shared: bool) -> None:  # noqa: FBT001 - drawn
    """Within a few bytes for each value, whether what stands there twice is one object or two."""
    value = [data, {"a": data, "b": [data]}]
    if not shared:
        value = json.loads(json.dumps(value))
    real, said = len(written(value)), least_size(value)
    assert said <= 3 * real + 8
    assert real <= 3 * said + 8


def test_wanted_members_prune_what_is_made() -> None:
    """Lists are looked through; what isn't wanted isn't evaluated."""
    whole = Projection("{a: x.{b: b, c: c}, d: y[].{e: e, f: lookup('p', f)}, g: z}")
    pruned = whole.pruned(Wanted(a=Wanted(b=Wanted()), d=Wanted(e=Wanted())))
    assert pruned.fields == {"x", "y"}
    assert not pruned.lookups
    value = {"x": {"b": 1, "c": 2}, "y": [{"e": 3, "f": 4}]}
    assert pruned.of(value) == {"a": {"b": 1}, "d": [{"e": 3}]}


PATHS = st.lists(NAMES, min_size=0, max_size=3).map(lambda names: ".".join(["part", *names]))


@given(PATHS, DATA)
def test_a_part_s_member_is_what_cel_says(source: str, data: Any) -> None:
    """The way without CEL gives the text that CEL gives, or no value where it has none."""
    expression = compile_expression(source, parts=("part",))
    context = Context(Request(), parts={"part": data})
    assert _text(lambda: expression.value(context)) == _text(lambda: expression._evaluated(context))


BEYOND = st.integers(2**64, 2**70) | st.integers(-(2**70), -(2**63) - 1)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ('user.level == "gold"', True),
        ("user.tags[0]", "t"),
        ("size(user.deep[1].list)", 2),
        ("user.id < 5.0 || user.id > 5.0", True),
        ("user.id == user.deep[0]", True),
        ("type(user.id) == double", True),
        ("user.small", 7),
        ("user.largest[0]", 2**63 - 1),
        ("user.largest[1] == 18446744073709551615u", True),
    ],
)
@given(number=BEYOND)
def test_an_integer_beyond_64_bits_is_in_nobody_s_way(
    source: str, value: object, number: int
) -> None:
    """CEL has no such integers; what reads others of the part gets them as they are."""
    deep = [number, {"list": [number, "x"]}]
    user = {"level": "gold", "tags": ["t"], "small": 7, "largest": [2**63 - 1, 2**64 - 1]}
    part = {**user, "id": number, "deep": deep}
    context = Context(Request(), parts={"user": part})
    assert compile_expression(source, parts=("user",)).value(context) == value
    assert compile_expression("user.id", parts=("user",)).value(context) == number
    assert part["deep"] == [number, {"list": [number, "x"]}]  # a copy was changed


def test_an_integer_beyond_64_bits_costs_little_however_deep() -> None:
    """CEL would write all that it stands in, a level after the other."""
    value: Any = [*range(100_000), -(2**63) - 1]
    for _ in range(198):
        value = [value]
    context = Context(Request(), parts={"a": {"deep": value, "b": [1]}})
    expression = compile_expression("a.b[0]", parts=("a",))
    assert calls_of(conditions, lambda: expression.value(context)) < 20
    assert expression.value(context) == 1


def _text(get: Any) -> str | None:
    try:
        return as_text(get())
    except (NoValue, EvaluationFailed):
        return None


@given(st.text(max_size=20), st.text(max_size=20))
def test_b7_values_stay_where_they_are_put(segment: str, value: str) -> None:
    """B7: no value adds a segment, a parameter or a host."""
    made = template("/a/{one}/b?x={two}&y=1", parts=("one", "two"))
    context = Context(Request(), parts={"one": segment, "two": value})
    if segment in {"", ".", ".."}:
        with pytest.raises(NoValue):
            made.target(context)
        return
    target = made.target(context)
    path, _, query = target.partition("?")
    assert path.count("/") == 3
    assert path.isascii()
    assert query.count("&") == 1
    assert query.count("=") == 2
    assert "#" not in target
    assert not any(character <= " " for character in target)


def test_a_parameter_without_a_value_is_left_out() -> None:
    """The others stay; a path whose every parameter is gone has no query."""
    context = Context(Request(), parts={"a": {"x": 1}})
    assert template("/p?a={a.y}&b={a.x}&c=3", parts=("a",)).target(context) == "/p?b=1&c=3"
    assert template("/p?a={a.y}", parts=("a",)).target(context) == "/p"
    with pytest.raises(NoValue):
        template("/p/{a.y}?b=1", parts=("a",)).target(context)


def test_a_text_that_is_one_hole_keeps_its_type() -> None:
    """Elsewhere it is text; without a value it is null."""
    context = Context(Request(), parts={"a": {"n": 7, "list": [1, {"b": None}]}})
    assert template("{a.n}", parts=("a",)).value(context) == 7
    assert template("{a.list}", parts=("a",)).value(context) == [1, {"b": None}]
    assert template("n{a.n}", parts=("a",)).value(context) == "n7"
    assert template("{a.gone}", parts=("a",)).value(context) is None
