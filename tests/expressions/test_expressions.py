"""Conditions, text with holes, and shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.core.headers import Headers
from extproc.core.principal import Principal
from extproc.core.values import MalformedRequest, Request
from extproc.expressions import projections
from extproc.expressions.conditions import (
    Context,
    EvaluationFailed,
    NotAnExpression,
    compile_expression,
    condition,
)
from extproc.expressions.mistakes import FUNCTIONS
from extproc.expressions.projections import DEEPEST, NotJson, Projection, parsed, written
from extproc.expressions.templates import NoValue, template
from tests.support.calls import calls_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        (",", []),
        ("p-{request.queries.id}", ["p-1", "p-2"]),
        ("{request.queries.id}-s", ["1-s", "2-s"]),
        ("p-{request.query.of}-s", ["p-x-s", "p-y z-s"]),
        ("{request.queries.id}{request.query.of}", ["1x", "1y z", "2x"]),
        ("{request.query.none}", []),
        ("p-{request.query.none}", ["p-"]),
        ("q, p-{request.queries.id}", ["q", "p-1", "q", "p-2"]),
    ],
)
def test_a_text_for_each_value_of_a_list(source: str, texts: list[str]) -> None:
    """What stands around a hole stands around each; of many by many there is a bound."""
    asked = context("/?id=1&id=2&of=x,%20y%20z,&none=")
    assert template(source).texts(asked, 3) == texts


def context(target: str = "/orders/7?a=1&b=x%20y", **claims: object) -> Context:
    """Return a request of Alice's."""
    request = Request(target=target, headers=Headers([("x-a", "1"), ("x-a", "2")]))
    request.params = {"id": "a/b c"}
    request.principal = Principal("jwt", "shop", "alice", "issuer", ("r", "w"), dict(claims))
    return Context(request, 1_800_000_000.0)


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ('"r" in principal.scopes', True),
        ('request.headers["x-a"] == "1, 2"', True),
        ('request.query.a == "1" && request.query.b == "x y"', True),
        ('request.path.startsWith("/orders")', True),
        ("request.time > timestamp('2026-01-01T00:00:00Z')", True),
        ("has(principal.claims.vip) && principal.claims.vip", False),
        ('principal.kind == "jwt" || principal.claims.missing == 1', True),
        ("// it's\nprincipal.kind == 'jwt' && request.method == 'GET'", True),
        ("principal.kind == 'jwt' && // don't\n  request\n    .method == 'GET'", True),
        ("request.method == 'GET' && 'http://it' != principal.kind", True),
        ("request . query\n . a == '1' // request.query['a']", True),
    ],
)
def test_conditions(source: str, *, holds: bool) -> None:
    """CEL over declared names."""
    assert condition(source).holds(context()) == holds


@pytest.mark.parametrize(
    "source", ["principal.claims.missing", 'request.headers["no"] == "x"', "principal.claims.n"]
)
def test_errors_are_neither_true_nor_false(source: str) -> None:
    """A missing key or a number where a condition belongs."""
    with pytest.raises(EvaluationFailed):
        condition(source).holds(context(n=1))


@pytest.mark.parametrize(
    "source",
    [
        "request.body.all(a, a > 0)",  # 200,000 iterations
        "request.body.all(a, request.body.all(b, a + b > 0))",
        "request.host == 'a'",  # no text that UTF-8 can say
    ],
)
def test_b9_a_budget_that_is_exceeded_is_an_error(source: str) -> None:
    """CEL's own error, like any other: a rule that allows doesn't, one that denies does."""
    hostile = context()
    hostile.request.host = "\ud800"
    hostile.body = list(range(1, 200_001))
    with pytest.raises(EvaluationFailed):
        condition(source, body=True).holds(hostile)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){12}b", "^(([a-z])+.)+[A-Z]$"])
def test_b9_patterns_take_linear_time(pattern: str) -> None:
    """B9: RE2 in conditions; where patterns are tried by backtracking this would never end."""
    hostile = context("/" + "a" * 50_000 + "!")
    assert not condition(f'request.path.substring(1).matches("{pattern}")').holds(hostile)


def test_a_repeated_parameter_can_not_be_read_as_one() -> None:
    """H3: the first or the last would both be wrong."""
    reads_a = condition('request.query.a == "1"')
    with pytest.raises(MalformedRequest):
        reads_a.holds(context("/?a=1&a=2"))
    assert reads_a.holds(context("/?a=1&b=1&b=2"))
    assert condition("request.queries.a.size() == 2").holds(context("/?a=1&a=2"))
    with pytest.raises(MalformedRequest):
        condition("request.query.exists(name, request.query[name] == '1')").holds(
            context("/?a=1&a=2")
        )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("request.hots", "did you mean request.host"),
        ("1 +", "doesn't compile"),
        ("request.path", "is string"),
        ('request.path.contain("a")', "calls contain, which is no function, did you mean contains"),
        ("nosuch(request.path)", "calls nosuch, which is no function, expected one of CEL's"),
        ("startsWith(request.path)", "calls startsWith with what it doesn't take, expected as in"),
        (
            'principal.scopes.contains("a")',
            "asks a list what it contains, expected `value",
        ),
        ('request.path.matches("(")', ""),
    ],
)
def test_conditions_that_do_not_compile(source: str, problem: str) -> None:
    """They are found when the file loads, or have no value."""
    try:
        made = condition(source)
    except NotAnExpression as error:
        assert problem in str(error)  # noqa: PT017 - one of two right outcomes
        return
    with pytest.raises(EvaluationFailed):
        made.holds(context())


@pytest.mark.parametrize(
    ("source", "as_header", "as_target"),
    [
        ("/x/{request.params.id}", "/x/a/b c", "/x/a%2Fb%20c"),
        ("{principal.scopes}", "r,w", "r%2Cw"),
        ("{{}}", "{}", "{}"),
        ("/x?q={request.params.id}", "/x?q=a/b c", "/x?q=a%2Fb%20c"),
        ("{principal.claims.n}{principal.claims.t}", "7true", "7true"),
        ("{principal.claims.u}", "caf%C3%A9", "caf%C3%A9"),
    ],
)
def test_holes(source: str, as_header: str, as_target: str) -> None:
    """Each place has its encoding."""
    made = template(source)
    values = context(n=7, t=True, u="café")
    assert made.header(values) == as_header
    assert made.target(values) == as_target


@pytest.mark.parametrize(
    "source", ["{principal.claims.no}", "{principal.claims.map}", "{principal.claims.nil}"]
)
def test_no_value(source: str) -> None:
    """A map, null or an error fills no hole."""
    with pytest.raises(NoValue):
        template(source).header(context(map={}, nil=None))


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_b7_a_segment_can_not_climb(value: str) -> None:
    """B7: empty and dotted segments are refused, also when put together."""
    with pytest.raises(NoValue):
        template("/x/{principal.claims.v}").target(context(v=value))
    with pytest.raises(NoValue):
        template("/x/.{principal.claims.v}/y").target(context(v="."))


@given(st.text(max_size=20))
def test_j26_b6_whatever_the_value_a_header_is_one_line(value: str) -> None:
    """J26, B6: printable ASCII stays, everything else is encoded."""
    made = template("x{principal.claims.v}")
    values = context(v=value.encode("utf-8", "ignore").decode().replace("\0", ""))
    header = made.header(values)
    headers = Headers()
    headers["x"] = header
    assert header.isascii()
    assert header.isprintable()


@given(st.text(st.sampled_from(" %a\té"), max_size=6))
def test_a_header_tells_all_of_a_value(value: str) -> None:
    """Also the blanks at its ends, which HTTP drops: ` admin` isn't `admin` to a backend."""
    header = template("{principal.claims.v}").header(context(v=value))
    assert header == header.strip()
    assert unquote(header) == value
    assert unquote(template(" x{principal.claims.v}. ").header(context(v=value))) == f"x{value}."


@given(st.text(max_size=20))
def test_b7_whatever_the_value_a_path_keeps_its_segments(value: str) -> None:
    """B7: a value is one segment, or there is no path."""
    clean = value.encode("utf-8", "ignore").decode().replace("\0", "")
    try:
        target = template("/a/{principal.claims.v}/b").target(context(v=clean))
    except NoValue:
        assert clean in {"", ".", ".."}
        return
    assert target.count("/") == 3
    assert not set(target) & set("?#\\ \r\n")


@pytest.mark.parametrize("source", ["{", "}", "{}", "{ }", "a{b", "{'}'", "{request.nope}"])
def test_templates_that_do_not_compile(source: str) -> None:
    """Braces without their pair, empty holes, unknown names."""
    with pytest.raises(NotAnExpression):
        template(source)


def test_braces_inside_holes() -> None:
    """Quotes and maps don't close a hole."""
    assert template('{"}" + {"a": "b"}["a"]}').text(context()) == "}b"


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("{a: x.y, b: z[0].x}", {"x", "z"}),
        ("x[?y > `1`].z | [0]", {"x"}),
        ("sort_by(x, &y)", {"x"}),
        ("keys(@)", {"*"}),
        ("x[].{p: lookup('parts', id)}", {"x", "parts"}),
    ],
)
def test_what_a_shape_reads(source: str, fields: set[str]) -> None:
    """It decides which calls are made."""
    assert Projection(source).fields == fields


def test_lookup() -> None:
    """Keys compare by their JSON text; no match is null."""
    shape = Projection("x[].lookup('p', @)")
    index = {"p": {"7": "seven"}}
    assert shape.of({"x": [7, "7", 8]}, index.__getitem__) == ["seven", "seven"]
    with pytest.raises(NotAnExpression, match="no literal"):
        Projection("lookup(a, b)")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_as_in_their_examples(name: str) -> None:
    """What is proposed exists."""
    assert name in FUNCTIONS[name]
    template(f"{{{FUNCTIONS[name]}}}").value(context())


@given(
    st.datetimes() | st.datetimes().map(lambda at: at.replace(microsecond=0)),
    st.timedeltas(timedelta(days=-90_000), timedelta(days=90_000)),
)
@settings(max_examples=50, deadline=None)
def test_moments_and_durations_are_texts(at: datetime, lasting: timedelta) -> None:
    """As CEL's own `string` writes them, also where a hole of JSON keeps its kind."""
    seconds = f"{lasting // timedelta(microseconds=1) / 1_000_000:.6f}s"
    for source in (f"timestamp('{at.isoformat()}Z')", f"duration('{seconds}')"):
        made, known = template(f"{{{source}}}"), compile_expression(f"string({source})")
        assert made.text(context()) == made.value(context()) == known.value(context())


def test_text_between_backticks_that_is_no_json() -> None:
    """The library reads it as text with a warning; it is refused in words."""
    assert Projection('`"text"`').of({}) == "text"
    with pytest.raises(NotAnExpression, match="between backticks"):
        Projection("`text`")


@pytest.mark.parametrize("make", [Projection, template, condition])
@given(text=st.text(max_size=30))
def test_any_text_compiles_or_is_refused(make: Callable[[str], object], text: str) -> None:
    """Nothing else comes out."""
    try:
        make(text)
    except NotAnExpression:
        return


@pytest.mark.parametrize(
    "body", [b"NaN", b"[1,]", b"\xff", b'{"a":1}x', b"[" * 2000 + b"]" * 2000, b""]
)
def test_b1_b3_json_is_strict(body: bytes) -> None:
    """B1, B3: bounded depth, UTF-8, no constants, nothing after the value."""
    with pytest.raises(NotJson):
        parsed(body)


NESTED = st.lists(st.sampled_from(["list", "map", "text", "number"]), max_size=12)


@given(NESTED, st.integers(0, 12))
def test_b1_json_is_bounded_in_depth(levels: list[str], others: int) -> None:
    """B1: by what it holds, whatever brackets its texts hold; also where it is read twice."""
    value: Any = 12345678901234567890123
    depth = 0
    for kind in levels:
        value = {"list": [value], "map": {"[": value}, "text": ["[{" * 90, value]}.get(kind, value)
        depth += kind != "number"
    depth = max(depth, others and 1)
    value = [value] + [[] for _ in range(others)]
    for around in (DEEPEST - 2 - depth, DEEPEST - 1 - depth, DEEPEST - depth, DEEPEST + 700):
        body = b"[" * around + json.dumps(value).encode() + b"]" * around
        if around + depth + 1 > DEEPEST:
            with pytest.raises(NotJson):
                parsed(body)
            continue
        assert json.dumps(parsed(body)).encode() == body
        assert written(parsed(body)) == body.replace(b" ", b"")


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1])
def test_b1_texts_close_no_brackets(levels: int) -> None:
    """B1: a bracket in a text beside each that opens and each that closes hides no level."""
    body = b'["]",' * (levels - 1) + b"[]" + b',"["]' * (levels - 1)
    if levels > DEEPEST:
        with pytest.raises(NotJson, match="200 levels"):
            parsed(body)
    else:
        assert written(parsed(body)) == body


@pytest.mark.parametrize("around", [1, 150, DEEPEST - 2])
def test_b1_depth_is_known_without_a_look_at_each_value(around: int) -> None:
    """B1: as little is done by ourselves for a MiB of brackets as for a few."""
    unit = b"[" * around + b"]" * around + b","
    small, large = (b"[" + unit * n + b"0]" for n in (300, (1 << 20) // len(unit)))
    assert calls_of(projections, lambda: parsed(large)) == calls_of(
        projections, lambda: parsed(small)
    )


MANY_NULLS = """
from extproc.core.values import Request
from extproc.expressions.conditions import Context, compile_expression
context = Context(Request(), parts={"part": {"list": [None] * 300_000}})
for _ in range(3):
    assert compile_expression("part.list + []", parts=("part",)).value(context)[-1] is None
"""


def test_b9_many_nulls_end_no_process() -> None:
    """The runtime takes a reference to None away with each that it gives."""
    subprocess.run([sys.executable, "-c", MANY_NULLS], check=True, timeout=60)


def test_a_type_that_is_none_does_not_compile() -> None:
    """It is told as other mistakes are."""
    with pytest.raises(NotAnExpression, match="map key type"):
        compile_expression("{request.time: 1}")


@pytest.mark.parametrize(
    "source",
    [
        'request.path.matches("(")',
        "request.path.matches('[')",
        "request.path . matches( r'(?<x>a' )",
        'matches(request.path, "*")',
        'request.method == "GET" && (request.path.matches("a{2000}"))',
    ],
)
def test_a_pattern_that_is_none_does_not_compile(source: str) -> None:
    """It would fail with every request."""
    with pytest.raises(NotAnExpression, match="no regular expression"):
        condition(source)


@pytest.mark.parametrize(
    "source",
    [
        'request.headers["X-Tenant"] == "a"',
        '"X-Tenant" in request.headers',
        'has(request.headers.Via) && request.headers["via"] == "a"',
        'response.headers["ETag"] != ""',
    ],
)
def test_a_header_in_capitals_does_not_compile(source: str) -> None:
    """Their names are in lower case, so it is never there."""
    with pytest.raises(NotAnExpression, match="lower case"):
        condition(source, response=True)
    for fine in (source.lower(), f"'{source.replace(chr(39), '')}' == ''"):
        assert condition(fine, response=True)


@pytest.mark.parametrize(
    "source",
    ['request.path.matches("^/(a|b)$")', "'matches(\"(\")' == request.path", "'x' in ['matches']"],
)
def test_patterns_and_what_only_looks_like_one(source: str) -> None:
    """A literal may say anything."""
    assert condition(source)
