"""A time zone that isn't written out is one that exists: the runtime asks the system for any."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.values import Request
from extproc.expressions.conditions import Context, EvaluationFailed, compile_expression
from extproc.expressions.names import environment
from extproc.expressions.zones import NO_ZONE

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()


def value(source: str, zone: Any) -> Any:
    """Return what an expression gives at noon."""
    context = Context(Request(), NOON, parts={"zone": zone})
    return compile_expression(source, parts=("zone",)).value(context)


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("UTC", 12), ("+02:00", 14), ("-01:30", 10), ("02:00", 14), ("", 12), ("Etc/GMT-2", 14)],
)
def test_one_that_exists(zone: str, hour: int) -> None:
    """By its name, or as an offset."""
    assert value("request.time.getHours(zone)", zone) == hour
    assert value("[zone].all(one, request.time.getHours(one) != 0)", zone) is True


@pytest.mark.parametrize("zone", ["Nowhere", "x" * 100_000, "/etc/passwd", "../UTC", "file:/etc/x"])
@pytest.mark.parametrize(
    "source",
    [
        "request.time.getHours(zone)",
        "[zone].exists(one, request.time.getFullYear(one) == 1)",
        "request.time.getDate(zone + '')",
    ],
)
def test_b9_one_that_does_not(source: str, zone: str) -> None:
    """B9: the runtime would remember each name, and open a file of that name."""
    with pytest.raises(EvaluationFailed) as caught:
        value(source, zone)
    assert caught.value.problem == NO_ZONE


def test_no_file_of_a_clients_is_opened(tmp_path: Path) -> None:
    """To open a pipe would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(EvaluationFailed):
        value("request.time.getHours(zone)", f"file:{pipe}")


@pytest.mark.parametrize("zone", [7, None, ["UTC"], {"a": "UTC"}])
def test_what_is_no_text(zone: Any) -> None:
    """It is an error as it was."""
    with pytest.raises(EvaluationFailed):
        value("request.time.getHours(zone)", zone)


@given(st.from_regex(r"[+-]?[0-9]{2}:[0-9]{2}", fullmatch=True))
def test_an_offset_is_what_it_is_to_the_runtime(zone: str) -> None:
    """The value, or that there is none."""
    whole = environment(False, ("zone",), False).compile("request.time.getHours(zone)")  # noqa: FBT003 - a cache key
    moment = datetime.fromtimestamp(NOON, UTC)
    plain = whole.eval(data={"request.time": moment, "zone": zone})
    if plain.type().name() == "ERROR":
        with pytest.raises(EvaluationFailed):
            value("request.time.getHours(zone)", zone)
    else:
        assert value("request.time.getHours(zone)", zone) == plain.plain_value()


def test_one_that_is_written_out_is_the_authors() -> None:
    """It is left as it is."""
    assert value("request.time.getHours('Etc/GMT-2')", "") == 14
