"""Writes the tables of gateway-file.md from the schema; a test checks that it is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extproc.config.load import json_schema

_FILE = Path(__file__).with_name("gateway-file.md")
_MARK = "The tables below are made from the schema"


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
        "| key | meaning | default |",
        "|---|---|---|",
    ]
    for name, value in part["properties"].items():
        default = "required" if name in required else _shown(value.get("default"))
        meaning = value.get("description", "").replace("|", "\\|")
        lines.append(f"| `{name}` | {meaning} | {default} |")
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    if value in (None, {}, []):
        return ""
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return "" if isinstance(value, dict) else f"`{str(value).lower()}`"


def page() -> str:
    """Return the whole page."""
    text = _FILE.read_text()
    head, mark, rest = text.partition(_MARK)
    line = rest.partition("\n")[0]
    return f"{head}{mark}{line}\n\n{tables()}"


if __name__ == "__main__":
    _FILE.write_text(page())
