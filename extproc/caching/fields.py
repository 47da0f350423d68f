"""Lists in field values: members between commas, where commas in quotes don't count (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
# One member: anything but commas, and whole quoted strings (section 5.6.1 and 5.6.4).
_MEMBER = re.compile(rf'(?:{QUOTED}|[^",])+|"')
_ESCAPED = re.compile(r"\\(.)")


def members(values: Iterable[str]) -> list[str]:
    """Return the members of a list field, over all its lines; empty ones are none."""
    found = []
    for value in values:
        if '"' in value:
            parts = [match[0] for match in _MEMBER.finditer(value)]
        else:
            parts = value.split(",")
        found += [member for part in parts if (member := part.strip(" \t"))]
    return found


def names(values: Iterable[str]) -> list[str]:
    """Return the members of a list of field names, in lower case."""
    return [member.lower() for member in members(values)]


def unquoted(text: str) -> str:
    """Return what a quoted string holds (section 5.6.4); other text as it is."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text
