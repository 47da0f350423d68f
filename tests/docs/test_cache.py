"""The page about the cache names every outcome and every option."""

from __future__ import annotations

import re
from pathlib import Path

from extproc.config.schema import Cache

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cache.md").read_text()
# `_note(request, "hit")`, `why = "stale"`, `return None, "partial"`, `return "bypass"`.
_BEFORE = (
    r"_note\(request, ",
    r"_count\(request, ",
    "else ",
    r'if [^"\n]* ',
    "return (?:None, )?",
    "outcome = ",
)
_OUTCOME = re.compile(f'(?:{"|".join(_BEFORE)})"([a-z-]+)"')


def test_every_outcome_is_documented() -> None:
    """Each that is counted."""
    found: set[str] = {"uri-miss", "vary-miss"}
    for name in ("plugin", "keeping", "revalidating"):
        found |= set(_OUTCOME.findall((ROOT / "extproc" / "caching" / f"{name}.py").read_text()))
    assert {"hit", "stale", "bypass", "stored", "revalidated"} <= found
    for outcome in found:
        assert f"`{outcome}`" in PAGE, outcome


def test_every_option_is_documented() -> None:
    """Each key under `cache`."""
    for name in Cache.model_fields:
        assert f"`{name}`" in PAGE, name
