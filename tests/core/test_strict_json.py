"""Strict JSON: what any two readers agree on, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core import strict_json
from extproc.core.strict_json import NotStrict

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
