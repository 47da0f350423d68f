"""Where some parameters count: what isn't in the key no upstream reads as one of them."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.caching.parameters import counted, target_with

DECLARED = frozenset({"page", "a_b", "größe", "f[x]"})
Read = list[tuple[str, str]]


def _plain(query: str) -> Read:
    return parse_qsl(query, keep_blank_values=True, errors="surrogateescape")


def _semicolons(query: str) -> Read:
    return _plain(query.replace(";", "&"))


def _twice(query: str) -> Read:
    return [(unquote(name), value) for name, value in _plain(query)]


def _any_case(query: str) -> Read:
    return [(name.lower(), value) for name, value in _plain(query)]


def _php(query: str) -> Read:
    found = []
    for name, value in _plain(query):
        head, bracket, rest = name.lstrip(" ").partition("\0")[0].partition("[")
        if bracket and "]" not in rest:
            head, rest = f"{head}_{rest}", ""
        found.append((head.replace(".", "_").replace(" ", "_"), f"{rest}={value}"))
    return found


UPSTREAMS = (_plain, _semicolons, _twice, _any_case, _php)
_NAMES = (
    "page",
    "PAGE",
    "p%61ge",
    "p%2561ge",
    "pag%65",
    "page[]",
    "page%5B%5D",
    "+page",
    "page%00x",
    "%70%C3",
    "p%zz",
    "page%",
    "a_b",
    "a.b",
    "a+b",
    "a%20b",
    "a[b",
    "a%5Bb",
    "f[x]",
    "f",
    "f[y]",
    "gr%C3%B6%C3%9Fe",
    "gr%F6%DFe",
    "x",
    "utm_source",
    "pages",
)
_names = st.sampled_from(_NAMES)
_pairs = st.tuples(_names, st.sampled_from(["", "=", "=1", "=2", "=%26page=1", "=1;page=2"]))
_queries = st.lists(
    st.tuples(_pairs.map("".join), st.sampled_from(["&", ";", "&&"])), max_size=4
).map(lambda parts: "".join([text for part in parts for text in part]).rstrip("&"))


@given(_queries)
def test_what_is_left_out_says_nothing(query: str) -> None:
    """Each upstream reads the same declared parameters from what is in the key."""
    for read in UPSTREAMS:
        names = {"page", "a_b", "größe", "f[x]", "f"} if read is _php else DECLARED

        def declared(text: str, names: object = names, read: object = read) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for name, value in read(text):  # type: ignore[operator]
                if name in names:  # type: ignore[operator]
                    found.setdefault(name, []).append(value)
            return found

        assert declared(query) == declared(counted(DECLARED, query)), (read, query)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("x=1&utm=2", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&b=1&a=1", "a=2&a=1&b=1"),
        ("%61=1&a=2&x=3", "%61=1&a=2"),
        ("a=2&%61=1", "a=2&%61=1"),
        ("A=1&b[]=2&b[c]=1", "A=1&b[]=2&b[c]=1"),
        ("x=1;a=2", "x=1;a=2"),
        ("x=1;y=2", ""),
        ("b=1&x=1;a=2&a=1", "b=1&x=1;a=2&a=1"),
        ("b=1&%ff=2&a=1", "b=1&%ff=2&a=1"),
        ("b=1&%2561=2&a=1", "b=1&%2561=2&a=1"),
    ],
)
def test_what_counts(query: str, kept: str) -> None:
    """As it was sent, and in its order where that may say something."""
    assert counted(frozenset({"a", "b"}), query) == kept


def test_targets() -> None:
    """Without a choice all of it; an empty query is none."""
    assert target_with(None, "/a", "x=1") == "/a?x=1"
    assert target_with(None, "/a", "") == "/a"
    assert target_with(frozenset(), "/a", "%ff=1") == "/a?"
