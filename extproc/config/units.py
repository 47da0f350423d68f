"""Durations and sizes as the gateway file writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)\Z")
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

A_DURATION = "expected a duration such as 250ms, 2s, 5m, 1h or 30d"
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


def shown(value: Any) -> str:
    """Show a value in an error: its text if short, else its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text) if len(text) <= 60 else f"a text of {len(text)} characters"  # noqa: PLR2004 - what fits a line


Duration = Annotated[
    float,
    BeforeValidator(duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(B|KiB|MiB|GiB)$"}),
]
