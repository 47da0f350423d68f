"""The rules as functions: parsers that take anything, and what they make of it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.caching import (
    answering,
    codec,
    conditions,
    control,
    dates,
    fields,
    freshness,
    keys,
    marks,
    ranges,
    selecting,
    structured,
    validating,
)
from extproc.caching.asking import asks
from extproc.caching.entry import Entry
from extproc.caching.marks import ALL, TAG, URI, Mark, Marks, Verdict
from extproc.core.headers import Headers

NOW = 1_800_000_000.0
_field = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


def headers(**values: str) -> Headers:
    """Return headers; `_` stands for `-`."""
    return Headers([(name.replace("_", "-"), value) for name, value in values.items()])


def read_as_all(text: str) -> None:
    """Let every parser read a text as the value of its fields."""
    names = ("cache-control", "cdn-cache-control", "age", "expires", "date", "vary", "pragma")
    more = ("last-modified", "range", "if-range", "if-none-match", "content-range")
    selected = ("accept-encoding", "accept", "accept-language", "x-other")
    every = Headers([(name, text) for name in (*names, *more, *selected)])
    control.of_response(every)
    asks(every)
    freshness.lifetime(200, every, control.directives(every), NOW)
    freshness.initial_age(every, NOW, NOW)
    varying = selecting.varying(every)
    selecting.selects((*(varying or ()), "accept", "accept-language", "x-other"), every)
    answering.accepts(every, "br")
    ranges.wanted(every, 10)
    ranges.content_range(every, 10)
    entry = Entry(200, (("etag", '"v"'),), b"0123456789", NOW, 0.0, 60.0)
    answering.answer(entry, every, "GET", NOW)
    conditions.for_upstream_alone(every, entry)
    validating.confirms(every, entry)
    for read in (structured.dictionary, structured.listed):
        try:
            read([text])
        except structured.NotStructured:
            continue


@given(_field)
def test_any_field_is_read_or_ignored(text: str) -> None:
    """No parser raises, whatever a peer sends."""
    read_as_all(text)


@pytest.mark.parametrize("begins", ["", '"', 'a="'])
@pytest.mark.parametrize(
    "unit",
    [
        *('"', '\\"', " ", ",", ";", " ,", "a;", "a=", "\t;"),
        *('"a', 'W/"', "q=", '=,"', "1", "a", "0-", "-1,", "\\"),
    ],
)
def test_d3_a_long_field_takes_no_long_time(begins: str, unit: str) -> None:
    """D3, B9: 60 KB that a client chose, in which an end is sought for each beginning.

    Where it is sought to the end each time, this takes minutes of CPU.
    """
    began = time.process_time()
    for ends in ("", ";;", '"', "!"):
        read_as_all(begins + unit * (60_000 // len(unit)) + ends)
    assert time.process_time() - began < 3


def test_d3_a_cache_control_that_is_too_long() -> None:
    """D3: it isn't read; nothing is stored then, and nothing stored is given."""
    for name in ("cache-control", "cdn-cache-control"):
        said = control.of_response(Headers([(name, "max-age=60, " + "a, " * 2000)]))
        assert "no-store" in said
    asked = asks(Headers([("cache-control", "a, " * 2000)]))
    assert asked.no_store
    assert asked.no_cache


OLD_MEMBER = re.compile(rf'(?:{fields.QUOTED}|[^",])+|"')


@given(st.text(st.sampled_from('ab=,"\\ '), max_size=12))
def test_members_are_those_of_the_grammar(value: str) -> None:
    """What a regular expression that says it all at once finds, in quadratic time."""
    parts = [found[0].strip(" \t") for found in OLD_MEMBER.finditer(value)]
    assert fields.members([value]) == [part for part in parts if part]


@given(st.lists(st.text(st.sampled_from('ab=,"\\ '), max_size=8), max_size=3))
def test_a_comma_in_quotes_cuts_nothing(values: list[str]) -> None:
    """What lies between commas outside of quotes, without blanks around it."""
    found = fields.members(values)
    assert all(member and member == member.strip(" \t") for member in found)
    assert sum(map(len, found)) <= sum(map(len, values))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ('max-age="60"', 60),
        ("MAX-AGE=60", 60),
        ("foo, max-age=60, bar", 60),
        ('extension="max-age=1", max-age=60', 60),
        ("max-age=60, max-age=60", 60),
        ("max-age=60, max-age=5", 5),
        ("max-age=99999999999", 2**31),
        ("max-age=-1", 0),
        ("max-age=1.5", 0),
        ("max-age =60", 0),
        ("max-age= 60", 0),
        ("max-age", 0),
        ("max-age=abc", 0),
        ("max-age=\N{ARABIC-INDIC DIGIT ONE}", 0),
        ("xmax-age=60", None),
        ("", None),
    ],
)
def test_seconds(value: str, seconds: int | None) -> None:
    """What can't be read is stale; the least of several counts (RFC 9111 section 4.2.1)."""
    found = control.directives(Headers([("cache-control", value)]))
    assert found.seconds("max-age") == seconds


@pytest.mark.parametrize(
    ("value", "age"),
    [("5", 5), ("5, 9", 5), ("", 0), ("abc", 0), ("-5", 0), ("5.0", 0), ("5;a=1", 0)],
)
def test_age(value: str, age: int) -> None:
    """Of a list the first; what is no number is ignored (RFC 9111 section 5.1)."""
    assert freshness.stated_age(Headers([("age", value)])) == age


@pytest.mark.parametrize(
    "text",
    [
        "Thu, 18 Aug 2050 02:01:18 GMT",
        "thu, 18 AUG 2050 02:01:18 gmt",
        "Thursday, 18-Aug-50 02:01:18 GMT",
        "Thu Aug 18 02:01:18 2050",
    ],
)
def test_dates_in_three_forms(text: str) -> None:
    """RFC 9110 section 5.6.7, whatever their case."""
    assert dates.moment(text, NOW) == datetime(2050, 8, 18, 2, 1, 18, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 31 Feb 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 25:01:18 GMT",
    ],
)
def test_other_dates_are_none(text: str) -> None:
    """And an Expires of them is in the past (RFC 9111 section 5.3)."""
    assert dates.moment(text, NOW) is None
    found = freshness.lifetime(200, headers(expires=text), control.NONE, NOW)
    assert (found.seconds, found.explicit) == (0, True)


def test_a_year_of_two_digits_is_not_far_ahead() -> None:
    """More than fifty years ahead is the past."""
    text = "Friday, 01-Jan-99 00:00:00 GMT"
    assert dates.moment(text, NOW) == datetime(1999, 1, 1, tzinfo=UTC).timestamp()


def test_heuristics() -> None:
    """A tenth of the time since the last change, a day at most, for statuses that allow it."""
    fields_ = {
        "date": "Tue, 24 Nov 2026 10:00:00 GMT",
        "last_modified": "Tue, 24 Nov 2026 09:00:00 GMT",
    }
    for status, said, seconds in (
        (200, "", 360),
        (404, "", 360),
        (403, "", 0),
        (599, "public", 360),
    ):
        found = headers(**fields_, cache_control=said)
        lifetime = freshness.lifetime(status, found, control.directives(found), NOW)
        assert (status, lifetime.seconds, lifetime.explicit) == (status, seconds, False)
    old = headers(last_modified="Tue, 24 Nov 2020 09:00:00 GMT")
    assert freshness.lifetime(200, old, control.NONE, NOW).seconds == 86_400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("max-age=60", {"max-age": 60}),
        ("a, b=?0, c=:YQ==:", {"a": True, "b": False, "c": b"a"}),
        ('a="x\\"y", b=tok/en, c=1.5', {"a": 'x"y', "b": structured.Token("tok/en"), "c": 1.5}),
        ("a=(1 2);x, a=3;y=4", {"a": 3}),
        ("", {}),
    ],
)
def test_dictionaries(text: str, value: dict[str, object]) -> None:
    """RFC 9651."""
    assert structured.dictionary([text]) == value


@pytest.mark.parametrize(
    "text", ["a,", ",a", "A=1", "a=1 b=2", "a=", "a==1", 'a="x', "a=(1 2", "&", "a=1.2345", "a;=1"]
)
def test_what_is_no_dictionary(text: str) -> None:
    """All of it or nothing."""
    with pytest.raises(structured.NotStructured):
        structured.dictionary([text])


@given(
    st.lists(st.text(st.sampled_from("abcAB"), min_size=1, max_size=3), max_size=5), st.randoms()
)
def test_preferences_have_one_form(languages: list[str], chance: object) -> None:
    """Whatever their order, case and blanks."""
    shuffled = sorted(languages, key=lambda _: chance.random())  # type: ignore[attr-defined]
    one = selecting.normal("accept-language", ", ".join(languages))
    two = selecting.normal("accept-language", " ,".join(map(str.upper, shuffled)))
    assert one == two


def test_weights_are_kept() -> None:
    """They say something; a weight of one is none."""
    normal = selecting.normal
    assert normal("accept", "a/b;q=0.50, c/d;q=1.0") == normal("accept", "C/D, a/b; Q=0.5")
    assert normal("accept", "a/b;q=0.5, c/d") != normal("accept", "a/b, c/d;q=0.5")
    assert normal("user-agent", "a, b") != normal("user-agent", "a,b")
    assert normal("x-country", "US ,,") != normal("x-country", "US")  # is it a list? nobody knows
    assert normal("accept", 'a/b;Profile="A"') != normal("accept", 'a/b;profile="a"')
    assert normal("accept", 'a/b;Profile="A"') == normal("accept", 'A/B;profile="A"')
    assert "secret" not in str(normal("cookie", "secret"))


@given(st.binary(max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_a_part_is_what_it_says(body: bytes, first: int, last: int) -> None:
    """Cut out of the whole, or out of a part that holds it."""
    found = ranges.wanted(Headers([("range", f"bytes={first}-{last}")]), len(body))
    entry = Entry(200, (), body, NOW, 0.0, 60.0)
    if found is None:
        assert last < first
    elif found == ranges.UNSATISFIABLE:
        assert first >= len(body)
    else:
        assert ranges.cut(entry, found) == body[first : last + 1]


@given(
    st.binary(min_size=1, max_size=30),
    st.integers(0, 29),
    st.integers(0, 29),
    st.integers(0, 29),
    st.integers(0, 29),
)
def test_parts_that_touch_are_joined(body: bytes, a: int, b: int, c: int, d: int) -> None:
    """Into what lies there in the whole; a gap joins nothing."""
    size = len(body)
    spans = [sorted((x % size, y % size)) for x, y in ((a, b), (c, d))]
    one, two = (
        Entry(206, (("etag", '"v"'),), body[x : y + 1], NOW, 0.0, 60.0, part=(x, y, size))
        for x, y in spans
    )
    found = ranges.joined(one, two)
    low, high = sorted(spans)
    if high[0] > low[1] + 1:
        assert found is None
    else:
        assert found is not None
        data, (first, last, length) = found
        assert data == body[first : last + 1]
        assert (first, last, length) == (low[0], max(low[1], high[1]), size)


def test_parts_of_weak_or_other_validators_are_not_joined() -> None:
    """They may be of different states (RFC 9111 section 3.4)."""
    for one, two in (('"a"', '"b"'), ('W/"a"', 'W/"a"'), ("", "")):
        left = Entry(206, (("etag", one),), b"01", NOW, 0.0, 60.0, part=(0, 1, 4))
        right = Entry(206, (("etag", two),), b"23", NOW, 0.0, 60.0, part=(2, 3, 4))
        assert ranges.joined(left, right) is None


_latin = st.text(st.characters(max_codepoint=255), max_size=8)
_entries = st.builds(
    Entry,
    st.integers(200, 599),
    st.lists(st.tuples(_latin, _latin), max_size=3).map(tuple),
    st.binary(max_size=50),
    st.floats(0, 2e9),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.lists(st.tuples(_latin, st.none() | _latin), max_size=2).map(tuple),
    _latin,
    st.lists(_latin, max_size=2).map(tuple),
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
_KEPT = (
    *("status", "headers", "body", "came", "age", "lifetime", "validate", "never_stale"),
    *("while_revalidate", "if_error", "selecting", "uri", "tags", "part", "fresh_until"),
)


@given(_entries, _latin)
def test_what_is_written_is_read_back(entry: Entry, name: str) -> None:
    """Under its own name."""
    found = codec.read(codec.written(entry, name), name, 1 << 20)
    assert found is not None
    for field in _KEPT:
        assert getattr(found, field) == getattr(entry, field), field


@given(_entries, st.integers(0, 400), st.integers(1, 255))
def test_C14_one_other_byte_and_it_is_no_entry(entry: Entry, place: int, change: int) -> None:
    """C14: nor under another name, nor cut."""
    data = codec.written(entry, "name")
    at = place % len(data)
    changed = data[:at] + bytes((data[at] ^ change,)) + data[at + 1 :]
    assert codec.read(changed, "name", 1 << 20) is None
    assert codec.read(data, "other", 1 << 20) is None
    assert codec.read(data[:at], "name", 1 << 20) is None


@given(st.binary(max_size=200))
def test_C14_any_bytes_are_an_entry_or_a_miss(data: bytes) -> None:
    """C14: with and without a beginning that looks right."""
    for beginning in (b"", b"xpc\x01"):
        assert codec.read(beginning + data, "name", 1 << 20) is None


@given(st.lists(st.text(max_size=6), min_size=2, max_size=4), st.integers(0, 3))
def test_C15_no_two_keys_run_together(parts: list[str], cut: int) -> None:
    """C15: moving a character from one part to the next gives another name."""
    place = cut % len(parts)
    moved = list(parts)
    moved[(place + 1) % len(parts)] = parts[place][-1:] + parts[(place + 1) % len(parts)]
    moved[place] = parts[place][:-1]
    if moved != parts:
        assert keys.name_of(tuple(moved)) != keys.name_of(tuple(parts))


_marks = st.one_of(
    st.builds(Mark, st.just(ALL), st.just(""), st.booleans()),
    st.builds(Mark, st.sampled_from([URI, TAG]), st.sampled_from(["a", "b"]), st.booleans()),
)


@given(st.lists(st.one_of(_marks, st.just("store"), st.just("look")), max_size=30))
def test_marks_hold_for_what_was_asked_before(steps: list[Mark | str]) -> None:
    """Against a list of all that happened."""
    known, entry = Marks(most=4), Entry(200, (), b"", NOW, 0.0, 60.0, uri="a", tags=("b",))
    since: list[Mark] = []
    for step in steps:
        if isinstance(step, Mark):
            known.add(step)
            since.append(step)
        elif step == "store":
            entry = Entry(200, (), b"", NOW, 0.0, 60.0, uri="a", tags=("b",))
            entry.stamp = entry.seen = known.sequence
            since = []
        else:
            found, meant = known.judge(entry), [mark for mark in since if mark.means(entry)]
            if any(not mark.soft for mark in meant):
                assert found is Verdict.VOID
            elif meant and found is Verdict.GOOD:
                assert entry.seen > entry.stamp  # it was told once that it is stale
            elif found is Verdict.VOID:
                assert len(set(since)) > 4  # the bound: what was forgotten is void
    assert marks.MOST >= 1000
