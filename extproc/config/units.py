"""Durations, sizes and rates as the gateway file writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)\Z")
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)\Z")
_RATE = re.compile(r"([0-9]{1,12})/(?:(day|month)|([0-9]{0,9})(ms|s|m|h|d))\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

A_DURATION = "expected a duration such as 250ms, 2s, 5m, 1h or 30d"
A_PAUSE = "expected 0s or a duration such as 250ms, 2s, 5m, 1h or 30d"
A_RATE = "expected a count over time such as 100/s, 5000/h, 1000/30d, 10000/day or 1000000/month"
A_SIZE = "expected a size such as 512B, 64KiB or 1MiB"


def duration(value: Any) -> float:
    """Read a duration.

    Returns:
        Seconds, more than 0.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None or float(found[1]) == 0:
        raise ValueError(f"is {shown(value)}, {A_DURATION}")
    return float(found[1]) * _SECONDS[found[2]]


def pause(value: Any) -> float:
    """Read a duration that may be none at all.

    Returns:
        Seconds, 0 or more.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"is {shown(value)}, {A_PAUSE}")
    return float(found[1]) * _SECONDS[found[2]]


def size(value: Any) -> int:
    """Read a size.

    Returns:
        Bytes, more than 0.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError(f"is {shown(value)}, {A_SIZE}")
    return int(found[1]) * _BYTES[found[2]]


@dataclass(frozen=True, slots=True)
class Rate:
    """A count over time: over a number of seconds, or a calendar period in UTC.

    Attributes:
        count: how many, more than 0.
        period: seconds, or which calendar period.
    """

    count: int
    period: float | Literal["day", "month"]


def rate(value: Any) -> Rate:
    """Read a count over time, `COUNT/[N]UNIT`.

    Returns:
        The count and its period.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = _RATE.match(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0 or (found[3] and int(found[3]) == 0):
        raise ValueError(f"is {shown(value)}, {A_RATE}")
    if found[2]:
        return Rate(int(found[1]), cast("Literal['day', 'month']", found[2]))
    return Rate(int(found[1]), int(found[3] or 1) * _SECONDS[found[4]])


def shown(value: Any) -> str:
    """Show a value in an error: its text if short, else its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = str(value)
    return repr(text) if len(text) <= 60 else f"a text of {len(text)} characters"  # noqa: PLR2004 - what fits a line


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


_A_DURATION = _schema(r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$", "250ms", "2s", "5m", "1h", "30d")

Duration = Annotated[float, BeforeValidator(duration), _A_DURATION]
Pause = Annotated[float, BeforeValidator(pause), _A_DURATION]
Size = Annotated[
    int, BeforeValidator(size), _schema(r"^[0-9]+(B|KiB|MiB|GiB)$", "512B", "64KiB", "1MiB")
]
RateText = Annotated[
    Rate,
    BeforeValidator(rate),
    _schema(r"^[0-9]+/(day|month|[0-9]*(ms|s|m|h|d))$", "100/s", "1000/30d", "10000/day"),
]
