"""Decision records as they are written; the last line may be under way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def records_in(file: Path) -> list[dict[str, Any]]:
    """Return what was recorded so far; nothing where there is no file yet."""
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
