"""Strict JSON: what any two readers agree on, and nothing else."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.core import strict_json
from extproc.core.strict_json import NotStrict
from tests.support.calls import calls_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(VALUES)
def test_plain_values_are_read(value: Any) -> None:
    """As they were written."""
    assert strict_json.read(json.dumps(value).encode(), deepest=100) == value


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    """A value, or the one declared error."""
    try:
        value = strict_json.read(data)
    except NotStrict:
        return
    assert json.loads(data) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"\\u0061":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b"[9223372036854775808]",
        b"[" + b"9" * 5000 + b"]",
        b'["\\ud800"]',
        b'["\\u0000"]',
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 40 + b"]" * 40,
        b"{'a':1}",
        b'{"a":1,}',
        b"a: 1",
        b'{"a":1} {"a":2}',
    ],
)
def test_what_readers_take_differently(text: bytes) -> None:
    """B1 to B3: encodings, members twice, numbers, depth, things that aren't JSON."""
    with pytest.raises(NotStrict):
        strict_json.read(text)


def test_capitals() -> None:
    """Some backends read `Role` as `role`; where that matters both can't be there."""
    assert strict_json.read(b'{"role":1,"Role":2}') == {"role": 1, "Role": 2}
    with pytest.raises(NotStrict):
        strict_json.read(b'{"role":1,"Role":2}', fold=True)


# ---- the same, said plainly


def plainly(data: bytes, deepest: int, *, fold: bool) -> Any:
    """Read member by member, value by value; `read` must take and refuse the same."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = {name.casefold() if fold else name for name, _ in pairs}
        if len(names) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    def no_constant(name: str) -> float:
        raise ValueError(name)

    text = data.decode()
    if text.startswith("\ufeff"):
        raise ValueError("mark")
    value = json.loads(text, object_pairs_hook=members, parse_constant=no_constant)
    if not is_plain(value, deepest):
        raise ValueError("not plain")
    return value


def is_plain(value: Any, depth: int) -> bool:
    """Say whether a value is bounded in depth, finite, and free of lone surrogates and NUL."""
    if depth < 0:
        return False
    if isinstance(value, dict):
        return all(is_plain(one, depth - 1) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return all(is_plain(item, depth - 1) for item in value)
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return not isinstance(value, float) or math.isfinite(value)


BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t\r"])
# Whatever could be taken for structure, for the end of a text, or for the same letter.
PIECES = st.sampled_from(
    [
        "a",
        "A",
        "\\u0061",
        "\\u0041",
        "ß",
        "SS",
        "\\u00DF",
        "İ",
        "\u017f",
        "s",
        ":",
        ",",
        "{",
        "}",
        "[]",
        "0",
        '\\"',
        "\\\\",
        "\\/",
        "\\n",
        "\\u0000",
        "\\u0001",
        "u0000",
        "\\u005c",
        "\\u0022",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\udc00",
        "\\D800",
        "\x7f",
        "\x01",
        "é",
        "😀",
        "\ufeff",
        "1234567890123456789012",
    ]
)
QUOTED = st.lists(PIECES, max_size=4).map(lambda pieces: f'"{"".join(pieces)}"')
NUMBERS = (
    st.sampled_from(
        [
            "0",
            "-0",
            "-0.0",
            "1",
            "12.5e-3",
            "1E5",
            "1e400",
            "-1e999",
            "1e-999",
            "01",
            "1.",
            ".5",
            "NaN",
            "-Infinity",
            "Infinity",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775807",
            "-9223372036854775808",
            "18446744073709551616",
            "-99999999999999999999999",
            "9223372036854775808.0",
            "9223372036854775808e1",
            "0.9223372036854775808",
            "1e9223372036854775808",
            "1.0e-9223372036854775808",
            "9" * 310,
            "9" * 4400,
            "1." + "3" * 40,
        ]
    )
    | st.integers(-(2**65), 2**65).map(str)
    | st.floats().map(repr)
)
LEAVES = st.sampled_from(["true", "false", "null", "[]", "{}", "[ ]", "{\n}"]) | NUMBERS | QUOTED


def _lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.builds("{}{}{}".format, BLANKS, inner, BLANKS), max_size=4)
    pairs = st.lists(st.builds("{}{}:{}{}".format, BLANKS, QUOTED, BLANKS, inner), max_size=4)
    return st.one_of(
        items.map(lambda all_: f"[{','.join(all_)}]"),
        pairs.map(lambda all_: f"{{{','.join(all_)}}}"),
        st.builds(lambda one, n: "[" * n + one + "]" * n, inner, st.integers(1, 6)),
    )


WRITTEN = st.builds("{}{}{}".format, BLANKS, st.recursive(LEAVES, _lists, max_leaves=12), BLANKS)
MARKS = st.sampled_from(
    [*map(bytes, zip(b'{}[],:"\\ 0aA\xff\0')), b'"a":1,', b"\\u0000", b"\xef\xbb\xbf"]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a text in which a piece was cut out, put in or put there twice."""
    data = draw(WRITTEN).encode()
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        middle = draw(st.one_of(MARKS, st.just(b""), st.just(data[start:end] * 2)))
        data = data[:start] + middle + data[end:]
    return data


@given(
    data=st.one_of(WRITTEN.map(str.encode), mutated()),
    deepest=st.integers(0, 8),
    fold=st.booleans(),
)
@example(data=b'{"a":{"b":1,"b":2},"c:d":":"}', deepest=8, fold=False)
@example(data=b'{"a\\\\":1,"a\\u005c":2}', deepest=8, fold=False)
@example(data=b'{"\\u00df":1,"SS":2}', deepest=8, fold=True)
@example(data=b'["\\\\u0000"]', deepest=8, fold=False)
@example(data=b'["\\\\\\u0000"]', deepest=8, fold=False)
@example(data=b"[[[[ ]]]]", deepest=3, fold=False)
@example(data=b"[[[[0]]]]", deepest=3, fold=False)
@example(data=b"[18446744073709551616]", deepest=8, fold=False)
@example(data=b"[-9223372036854775808]", deepest=8, fold=False)
@example(data=b'[9223372036854775807, "9223372036854775808"]', deepest=8, fold=False)
@example(data=b"[9223372036854775808.5, 1.9223372036854775808, 1e-9]", deepest=8, fold=False)
@example(data=b'["]",["]",["]",[["["],"["],"["]]', deepest=2, fold=False)
def test_the_same_is_read_as_member_by_member(
    *,
    data: bytes,
    deepest: int,
    fold: bool,
) -> None:
    """Taken, refused and understood alike, however names, numbers and brackets are written."""
    try:
        expected = repr(plainly(data, deepest, fold=fold))
    except (ValueError, RecursionError):
        expected = "refused"
    try:
        found = repr(strict_json.read(data, deepest=deepest, fold=fold))
    except NotStrict:
        found = "refused"
    assert found == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":1,"\\u0061":2}', "there twice"),
        (b'{"a":1,"A":2}', "in other capitals"),
        (b"[" * 40 + b"]" * 40, "nested too deep"),
        (b"[9223372036854775808]", "integer"),
        (b'["\\u0000"]', "NUL"),
        (b'{"a":1,}', "isn't JSON in UTF-8"),
        (b'["\xff"]', "isn't JSON in UTF-8"),
    ],
)
def test_what_is_wrong_is_told(text: bytes, why: str) -> None:
    """Each for what it is."""
    with pytest.raises(NotStrict, match=why):
        strict_json.read(text, fold=True)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(
    "unit",
    [b'{"a":1,"b":2},', b"[" * 30 + b"]" * 30 + b",", b'{"a":' * 30 + b"0" + b"}" * 30 + b","],
)
def test_what_is_done_for_each_value_is_not_done_in_python(unit: bytes, *, fold: bool) -> None:
    """A text of a MiB takes no more calls of ours than a short one."""
    small, large = (b"[" + unit * n + b"0]" for n in (40, 20_000))
    calls = [
        calls_of(strict_json, partial(strict_json.read, text, fold=fold)) for text in (small, large)
    ]
    assert calls[0] == calls[1]
