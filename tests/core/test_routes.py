"""Path patterns and the table of routes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.routes import PathPattern
from extproc.core.values import MalformedRequest, parse_query


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/products", "/products", True),
        ("/products", "/products/", False),
        ("/products/{id}", "/products/7", True),
        ("/products/{id}", "/products/", False),
        ("/products/{id}", "/products/7/x", False),
        ("/things/*", "/things", False),
        ("/things/*", "/things/", True),
        ("/things/*", "/things/a/b", True),
        ("/things/*", "/thingsx", False),
        ("/*", "/", True),
        ("/*", "/a", True),
        ("/", "/", True),
        ("/", "/a", False),
        ("/a/{b}/*", "/a/x/", True),
        ("/a/{b}/*", "/a//c", False),
    ],
)
def test_matching(pattern: str, path: str, *, matches: bool) -> None:
    """Exact, one segment, or all that lies below."""
    assert PathPattern.parse(pattern).matches(path) == matches


def test_parameters_are_decoded_once() -> None:
    """An encoded percent sign stays one."""
    pattern = PathPattern.parse("/a/{one}/{two}")
    assert pattern.params("/a/x%20y/%2541") == {"one": "x y", "two": "%41"}


def test_parameters_must_be_utf8() -> None:
    """P9: overlong and broken sequences are refused."""
    for path in ("/%c0%af", "/%ff", "/%ed%a0%80"):
        with pytest.raises(MalformedRequest):
            PathPattern.parse("/{p}").params(path)


def test_a_query_keeps_every_value() -> None:
    """Repeated, empty and encoded parameters."""
    assert parse_query("a=1&a=2&b&c=x+y&d=%2B&&=e") == {
        "a": ["1", "2"],
        "b": [""],
        "c": ["x y"],
        "d": ["+"],
        "": ["e"],
    }


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_any_query_is_decoded_or_malformed(text: str) -> None:
    """Nothing else comes out."""
    try:
        parsed = parse_query(text)
    except MalformedRequest:
        return
    assert all(values for values in parsed.values())
