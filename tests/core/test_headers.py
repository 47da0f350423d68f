"""Headers: a multi-map that records what was changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.headers import Headers, Written

NAMES = st.sampled_from(["a", "b", "x-c", "set-cookie"])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)


def test_reading_ignores_case() -> None:
    """Names are compared without case and kept in lower case."""
    headers = Headers()
    headers["X-Tenant"] = "acme"
    assert headers["x-tenant"] == headers.get("X-TENANT") == "acme"
    assert "X-Tenant" in headers
    assert list(headers) == ["x-tenant"]


def test_repeated_headers_are_joined() -> None:
    """One value is read from many, as RFC 9110 says; each can be had as well."""
    headers = Headers([("a", "1"), ("b", "x"), ("a", "2")])
    assert headers["a"] == "1, 2"
    assert headers.get_all("a") == ["1", "2"]


def test_unchanged_headers_record_nothing() -> None:
    """Reading records nothing, and neither does removing what isn't there."""
    headers = Headers([("a", "1")])
    assert headers.get("a") == "1"
    del headers["b"]
    assert headers.changes() is None


@pytest.mark.parametrize("name", ["", "a b", "a:b", "naïve", "a\n", ":path"])
def test_a_name_must_be_a_token(name: str) -> None:
    """What is no header name can't be written."""
    with pytest.raises(ValueError, match="no header name"):
        Headers()[name] = "x"


@pytest.mark.parametrize("value", ["a\r\nb: c", "\0", "\n", "€", "\x7f"])
def test_a_value_can_not_break_out(value: str) -> None:
    """B6: line breaks, NUL and characters that aren't bytes are refused."""
    with pytest.raises(ValueError, match="no header may carry"):
        Headers()["a"] = value


def test_the_representation_shows_no_values() -> None:
    """L2: what is logged by accident holds no credential."""
    assert "secret" not in repr(Headers([("authorization", "secret")]))


@given(
    start=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    steps=st.lists(
        st.tuples(st.sampled_from(["set", "add", "delete", "put", "take"]), NAMES, VALUES),
        max_size=10,
    ),
)
def test_applying_the_changes_gives_what_was_read(
    start: list[tuple[str, str]], steps: list[tuple[str, str, str]]
) -> None:
    """Whatever is done, the changes turn the first state into the last, removals first."""
    headers = Headers(start)
    for step, name, value in steps:
        if step == "set":
            headers[name] = value
        elif step == "add":
            headers.add(name, value)
        elif step == "put":
            headers.put(Written([(name, value), ("other", "1")]))
        elif step == "take":
            headers.put(Written([(name, None)]))
        else:
            del headers[name]
    applied = dict[str, list[str]]()
    for name, value in start:
        applied.setdefault(name, []).append(value)
    changes = headers.changes()
    for name in changes.remove if changes else []:
        applied.pop(name, None)
    for name, values in changes.set if changes else []:
        applied[name] = list(values)
    assert applied == {name: headers.get_all(name) for name in headers}
    assert headers.changes() is None
