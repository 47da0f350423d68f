"""Durations, sizes and rates: everything is one, or refused with what was expected."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from pydantic import TypeAdapter

from extproc.config import units
from extproc.config.units import Rate

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
TYPES: list[Any] = [units.Duration, units.Size, units.RateText, units.Pause]


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.sampled_from(sorted(SECONDS)))
def test_rates_over_so_many_units(count: int, number: int, unit: str) -> None:
    """`COUNT/[N]UNIT` is a count over seconds."""
    assert units.rate(f"{count}/{number}{unit}") == Rate(count, number * SECONDS[unit])
    assert units.rate(f"{count}/{unit}") == Rate(count, SECONDS[unit])


def test_rates_over_calendar_periods() -> None:
    """A day of the calendar isn't 24 hours from now."""
    assert units.rate("10000/day") == Rate(10_000, "day")
    assert units.rate("1000000/month") == Rate(1_000_000, "month")
    assert units.rate("5/d") == Rate(5, 86_400.0)


@pytest.mark.parametrize(
    "value",
    ["", "5", "/s", "0/s", "5/0s", "5/", "5/2day", "5/year", "-5/s", "5 / s", "٣/s", 5, None],
)
def test_no_rates(value: object) -> None:
    """Everything else is refused with what was expected."""
    with pytest.raises(ValueError, match="expected a count over time such as 100/s"):
        units.rate(value)


def test_a_pause_may_be_none_at_all() -> None:
    """Where a duration must be more than nothing, a leeway needn't."""
    assert units.pause("0s") == 0
    assert units.pause("2m") == 120
    with pytest.raises(ValueError, match="expected 0s or a duration"):
        units.pause("0")


@given(st.integers(1, 10**9), st.sampled_from([("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)]))
def test_sizes_are_powers_of_two(number: int, unit: tuple[str, int]) -> None:
    """By name."""
    assert units.size(f"{number}{unit[0]}") == number << unit[1]


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_anything_is_a_unit_or_a_value_error(value: object) -> None:
    """Nothing else is raised."""
    for read in (units.duration, units.pause, units.size, units.rate):
        with suppress(ValueError):
            read(value)


@pytest.mark.parametrize("kind", TYPES)
def test_examples_of_the_schema_are_accepted(kind: Any) -> None:
    """By the schema's own pattern and by the reader."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema()
    for example in schema["examples"]:
        assert Draft202012Validator(schema).is_valid(example)
        assert adapter.validate_python(example)
