"""Writes the tables of gateway-file.md from the schema; a test checks that it is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extproc.config.load import json_schema

_FILE = Path(__file__).with_name("gateway-file.md")
_MARK = "The tables below are made from the schema"
_KINDS = {"string": "text", "integer": "number", "boolean": "true or false"}
_MEASURES = {"250ms": "duration", "512B": "size"}  # by the first of their examples
# Of each: how much of the smallest unit one of the schema's is, what nothing is, and the units.
_UNITS = {
    "duration": (1000, "0s", {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}),
    "size": (1, "0B", {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}),
}


def tables() -> str:
    """Return the tables: the file's own keys, then each part's."""
    schema = json_schema()
    parts = [("The file", schema), *sorted(schema["$defs"].items())]
    return "\n".join(_table(title, part) for title, part in parts if "properties" in part)


def _table(title: str, part: dict[str, Any]) -> str:
    required = set(part.get("required", ()))
    lines = [
        f"## {title}",
        "",
        part.get("description", ""),
        "",
        "| key | value | meaning | default |",
        "|---|---|---|---|",
    ]
    for name, value in part["properties"].items():
        default = "required" if name in required else _shown(value.get("default"), _kind(value))
        meaning = value.get("description", "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_kind(value)} | {meaning} | {default} |")
    return "\n".join([*lines, ""])


def _kind(value: dict[str, Any]) -> str:
    """Return what may be written for a key, in a few words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_kind(one) for one in value["anyOf"] if one.get("type") != "null")
    choices = value["enum"] if "enum" in value else [value[n] for n in ("const",) if n in value]
    if choices:
        return ", ".join(f"`{str(one).lower() if one is True else one}`" for one in choices)
    return _kind_by_type(value)


def _kind_by_type(value: dict[str, Any]) -> str:
    kind: str = value.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(value.get('items', {}))}"
    if kind == "object":
        return _kind_of_map(value)
    if kind == "string" and "examples" in value:
        return _MEASURES[value["examples"][0]]
    return _KINDS.get(kind, kind)


def _kind_of_map(value: dict[str, Any]) -> str:
    named = value.get("properties")
    if named:
        return ", ".join(f"`{name}`: {_kind(one)}" for name, one in named.items())
    inside = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
    kinds = [_kind(one) for one in inside if isinstance(one, dict)]
    return f"by name: {kinds[0]}" if kinds else "map"


def _shown(value: Any, kind: str) -> str:
    if value in (None, {}, []):
        return ""
    if kind in _MEASURES.values() and not isinstance(value, str):
        return f"`{_measured(value, kind)}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return "" if isinstance(value, dict) else f"`{str(value).lower()}`"


def _measured(value: float, kind: str) -> str:
    """Write a duration in seconds, or a size in bytes, as it may be written in the file."""
    smallest, nothing, units = _UNITS[kind]
    whole = round(value * smallest)
    if not whole:
        return nothing
    unit = [unit for unit, size in units.items() if whole % size == 0][-1]
    return f"{whole // units[unit]}{unit}"


def page() -> str:
    """Return the whole page."""
    text = _FILE.read_text()
    head, mark, rest = text.partition(_MARK)
    line = rest.partition("\n")[0]
    return f"{head}{mark}{line}\n\n{tables()}"


if __name__ == "__main__":
    _FILE.write_text(page())
