"""Lists in field values: members between commas, where commas in quotes don't count (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
# What a member of a list of preferences may have behind a semicolon (section 12.4.2).
WEIGHT = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z", re.IGNORECASE)
_STRING = re.compile(QUOTED)
_STOP = re.compile('[",]')
_LOOSE = re.compile('[^",]+|"')
_ESCAPED = re.compile(r"\\(.)")


def members(values: Iterable[str]) -> list[str]:
    """Return the members of a list field, over all its lines; empty ones are none."""
    found = []
    for value in values:
        parts = _parts(value) if '"' in value else value.split(",")
        found += [member for part in parts if (member := part.strip(" \t"))]
    return found


def _parts(value: str) -> list[str]:
    """Cut at commas outside quoted strings (sections 5.6.1 and 5.6.4), each place read once.

    Where a quote is never closed, neither is one behind it: those are characters like others,
    and cut as commas do. Who sends that chooses how it is read, so it must not take long.
    """
    parts = []
    begin = at = 0
    while (stop := _STOP.search(value, at)) is not None:
        if stop[0] == ",":
            parts.append(value[begin : stop.start()])
            begin = at = stop.end()
            continue
        string = _STRING.match(value, stop.start())
        if string is None:
            quote = stop.start()
            return [*parts, value[begin:quote], *_LOOSE.findall(value[quote:])]
        at = string.end()
    return [*parts, value[begin:]]


def names(values: Iterable[str]) -> list[str]:
    """Return the members of a list of field names, in lower case."""
    return [member.lower() for member in members(values)]


def unquoted(text: str) -> str:
    """Return what a quoted string holds (section 5.6.4); other text as it is."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text
