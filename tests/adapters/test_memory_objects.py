"""The store of objects: its bound, and what stays in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.memory_objects import PLACE, Frequencies, MemoryObjects

_STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "drop"]), st.integers(0, 40), st.integers(1, 3000)),
    max_size=300,
)


@given(_STEPS)
def test_whatever_is_done_the_bound_holds(steps: list[tuple[str, int, int]]) -> None:
    """And what is given is what was put last under that key."""
    store, put = MemoryObjects(20_000), dict[int, int]()
    for number, (what, key, cost) in enumerate(steps):
        if what == "put":
            store.put(key, number, cost)
            put[key] = number
        elif what == "drop":
            store.drop(key)
            assert store.get(key) is None
            put.pop(key, None)
        else:
            found = store.get(key)
            assert found is None or found == put[key]
        assert store.cost <= 20_000
        assert (len(store) == 0) == (store.cost == 0)


def test_a_scan_displaces_nothing_that_is_in_use() -> None:
    """Ten thousand keys that are asked for once, past a hundred that are asked for often."""
    store = MemoryObjects(200 * (1000 + PLACE))
    for _ in range(5):
        for key in range(100):
            if store.get(key) is None:
                store.put(key, key, 1000)
    for key in range(1000, 11_000):
        if store.get(key) is None:
            store.put(key, key, 1000)
    assert sum(store.get(key) is not None for key in range(100)) >= 95


def test_what_is_no_longer_asked_for_goes() -> None:
    """Counts fade: another hundred takes the place."""
    store = MemoryObjects(120 * (1000 + PLACE))
    for first in (0, 1000):
        for _ in range(200):
            for key in range(first, first + 100):
                if store.get(key) is None:
                    store.put(key, key, 1000)
    assert sum(store.get(key) is not None for key in range(1000, 1100)) >= 75


def test_what_is_too_large_is_not_kept() -> None:
    """Also in place of something smaller; the others stay."""
    store = MemoryObjects(100_000)
    store.put("a", 1, 100)
    store.put("b", 2, 100)
    store.put("a", 3, 60_000)
    assert (store.get("a"), store.get("b")) == (None, 2)
    store.clear()
    assert (len(store), store.cost) == (0, 0)


@given(st.lists(st.integers(0, 30), max_size=200))
def test_counts_are_never_too_low(keys: list[int]) -> None:
    """Up to where they end, and before they fade."""
    counts = Frequencies(1 << 12)
    for key in keys:
        counts.add(key)
    for key in set(keys):
        assert counts.of(key) >= min(keys.count(key), 15)
