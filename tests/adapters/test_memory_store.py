"""The embedded store is bounded and forgets in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.memory_store import MemoryStore
from extproc.testing import ManualClock


def test_entries_expire() -> None:
    """At the end of their time, not before."""
    clock = ManualClock()
    store = MemoryStore(clock)
    store.set("a", b"1", 10)
    clock.move(9.9)
    assert store.get("a") == b"1"
    clock.move(0.1)
    assert store.get("a") is None
    assert store.size == 0


def test_the_least_recently_used_goes_first() -> None:
    """Reading counts as using."""
    store = MemoryStore(ManualClock(), max_bytes=650)
    for key in "abc":
        store.set(key, b"x", 10)
    store.get("a")
    store.set("d", b"x", 10)
    assert store.get("a") == b"x"
    assert store.get("b") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=400)), max_size=40))
def test_the_bound_holds(entries: list[tuple[str, bytes]]) -> None:
    """Whatever is stored, the size stays within the bound and true."""
    store = MemoryStore(ManualClock(), max_bytes=1500)
    for key, value in entries:
        store.set(key, value, 10)
        assert 0 <= store.size <= 1500
    for key in "abcdef":
        store.delete(key)
    assert store.size == 0
