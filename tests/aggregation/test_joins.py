"""Keys, chunks, and items by their keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.aggregation.calls import Batch, Call
from extproc.aggregation.failures import Unusable
from extproc.aggregation.joins import NotJoinable, chunks, joined, keys_of
from extproc.aggregation.legs import Leg, PartState
from extproc.core.values import Request
from extproc.expressions.conditions import Context, EvaluationFailed, compile_expression
from extproc.expressions.projections import Projection, key_text
from extproc.expressions.templates import template

KEYS = st.one_of(st.integers(0, 30), st.text(alphabet="0123abc", min_size=1, max_size=3))
BY_KEY = Batch(key=Projection("id"))


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ([3, 1, 3, "1", "a", "a"], [3, 1, "a"]),
        ([None, {}, [], True, "", 2], [2]),
        (7, [7]),
        (None, []),
        ("x", ["x"]),
        ([1, 1.5], [1, 1.5]),
    ],
)
def test_keys_are_scalars_each_once(value: Any, keys: list[Any]) -> None:
    """In their order; 1 and "1" are one key."""
    assert keys_of(value, 100) == keys


def test_keys_are_looked_for_as_long_as_they_count() -> None:
    """An upstream may send a million of them."""
    assert keys_of([1, 1, 2, {}, 3, 4], 3) == [1, 2, 3]
    by_two = Batch(key=None, size=2)
    batch = Call("p", "u", template("/{keys}", parts=("keys",)), batch=by_two, required=False)
    assert [leg.keys for leg in PartState(batch, None).cut(list(range(9)), 2)] == [
        [0, 1],
        [2, 3],
        [4],
    ]
    single = Call("p", "u", template("/{key}", parts=("key",)), required=False)
    assert [leg.keys for leg in PartState(single, None).cut(list(range(9)), 2)] == [[0], [1], [2]]


@pytest.mark.parametrize("required", [True, False])
def test_as_many_calls_as_may_be_made(*, required: bool) -> None:
    """One more, and a call that is required fails before any is made."""
    single = Call("p", "u", template("/{key}", parts=("key",)), required=required)
    assert len(PartState(single, None).cut([1, 2], 2)) == 2
    if not required:
        assert len(PartState(single, None).cut([1, 2, 3], 2)) == 3
        return
    with pytest.raises(Unusable, match="too_many_calls"):
        PartState(single, None).cut([1, 2, 3], 2)


@given(st.lists(KEYS, max_size=40), st.integers(1, 12))
def test_chunks_are_the_keys(raw: list[Any], size: int) -> None:
    """All of them, in order, none longer than the size."""
    keys = keys_of(raw, 100)
    cut = list(chunks(keys, size))
    assert [key for chunk in cut for key in chunk] == keys
    assert all(0 < len(chunk) <= size for chunk in cut)
    assert len(cut) == -(-len(keys) // size)


@given(st.lists(KEYS, min_size=1, max_size=20), st.lists(KEYS, max_size=20), st.randoms())
def test_items_by_key(raw: list[Any], present: list[Any], random: Any) -> None:
    """Missing ones are absent, extra ones ignored, whatever the answer's order."""
    keys = keys_of(raw, 100)
    items = [{"id": key, "n": number} for number, key in enumerate(keys_of(present, 100))]
    random.shuffle(items)
    found = joined(BY_KEY, keys, items)
    texts = {key_text(key) for key in keys}
    assert found == {key_text(i["id"]): i for i in items if key_text(i["id"]) in texts}


def test_items_by_position_and_map() -> None:
    """A position needs as many items as keys; a map's other entries are ignored."""
    by_position = Batch(by="position")
    assert joined(by_position, [4, "b"], ["x", None]) == {"4": "x", "b": None}
    with pytest.raises(NotJoinable):
        joined(by_position, [4, "b"], ["x"])
    assert joined(Batch(by="map"), [4, "b"], {"4": 1, "c": 2}) == {"4": 1}


@pytest.mark.parametrize("answer", [None, {}, "x", 7])
def test_another_shape(answer: Any) -> None:
    """Is no bulk answer."""
    with pytest.raises(NotJoinable):
        joined(BY_KEY, [1], answer)


def test_items_inside_the_answer() -> None:
    """`items` says where; items that aren't maps have no key."""
    batch = Batch(key=Projection("meta.id"), items=Projection("data.list"))
    answer: Any = {"data": {"list": [{"meta": {"id": 1}}, "x", None, {"meta": {"id": {}}}]}}
    assert joined(batch, [1, 2], answer) == {"1": {"meta": {"id": 1}}}


def test_a_part_is_read_once_for_all_calls() -> None:
    """By what reads no key: CEL would take a large one over for each of a hundred calls.

    A part never changes; this one does, to tell who looks again.
    """
    path = template("/{key}/{users[0]}/{users[0] + key}", parts=("users", "key", "keys"))
    users = ["a"]
    known = Context(Request(), parts={"users": users}, known={})
    part = PartState(Call("p", "u", path), None)
    first, second = (Leg(part, part.call, [key]).context(known, known.parts or {}) for key in "xy")
    assert path.target(first) == "/x/a/ax"
    users[0] = "b"
    assert path.target(second) == "/y/a/by"


def test_what_has_no_value_yet_may_have_one() -> None:
    """What isn't there is looked for again, and what may be changed is made anew."""
    parts: dict[str, Any] = {}
    known = Context(Request(), parts=parts, known={})
    expression = compile_expression("[users[0]]", parts=("users",))
    with pytest.raises(EvaluationFailed):
        expression.value(known)
    parts["users"] = [1]
    made = expression.value(known)
    assert made == [1]
    assert expression.value(known) is not made


@pytest.mark.parametrize(
    ("sources", "outcome"),
    [
        ([], "ok"),
        (["", "miss"], "ok"),
        (["hit", "hit"], "hit"),
        (["hit", "miss"], "ok"),
        (["", "hit"], "ok"),
        (["hit", "stale", "hit"], "ok"),
    ],
)
def test_a_list_came_from_where_all_of_it_came_from(sources: list[str], outcome: str) -> None:
    """One stored answer of a hundred is no hit."""
    state = PartState(Call("p", "u", template("/{key}", parts=("key",))), [1, 2, 3])
    for source in sources:
        state.came(source)
    assert state.noted()["outcome"] == outcome
    state.outcome, state.failed = "status", True  # of another one
    state.came("hit")
    assert state.noted()["outcome"] == "status"
