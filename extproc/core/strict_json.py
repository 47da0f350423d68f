"""JSON (RFC 8259) read in the one way that every reader agrees on; everything else is refused.

Two parsers of one text may take different members of the same name, other numbers, another
encoding. What is judged must be what a backend reads, so such texts aren't read at all.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHARSETS = frozenset({"charset=utf-8", 'charset="utf-8"'})
_LARGEST = 1 << 63


class NotStrict(ValueError):
    """The text isn't JSON, or readers may differ about it."""


def read(data: bytes, *, deepest: int = 32, fold: bool = False) -> Any:
    """Read one value: UTF-8 without a mark, no member twice, bounded depth, plain numbers.

    Args:
        data: the text.
        deepest: how far values may be nested.
        fold: whether members that differ by capitals alone count as the same.

    Raises:
        NotStrict: it is something else.
    """
    try:
        value = json.loads(
            _without_mark(data.decode()),
            object_pairs_hook=_folded if fold else _members,
            parse_constant=_no_constant,
        )
    except NotStrict:
        raise
    except (ValueError, RecursionError) as error:
        raise NotStrict("it isn't JSON in UTF-8") from error
    if not _plain(value, deepest):
        raise NotStrict("it holds a value that readers take differently, or is nested too deep")
    return value


def says_json(values: Sequence[str]) -> bool:
    """Say whether there is one media type, which is JSON (RFC 6839 section 3.1), in UTF-8.

    Args:
        values: of Content-Type.
    """
    if len(values) != 1 or "," in values[0]:
        return False
    kind, *parameters = (part.strip().lower() for part in values[0].split(";"))
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    return is_json and all(
        parameter in _CHARSETS or not parameter.startswith("charset") for parameter in parameters
    )


def is_encoded(codings: Sequence[str]) -> bool:
    """Say whether the values of Content-Encoding name a coding (RFC 9110 section 8.4)."""
    return any(value.lower() != "identity" for value in codings)


def _without_mark(text: str) -> str:
    if text.startswith("\ufeff"):
        raise NotStrict("it begins with a byte order mark")
    return text


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrict("a member is there twice")
    return members


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name.casefold() for name, _ in pairs}) != len(pairs):
        raise NotStrict("a member is there twice, or in other capitals")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise NotStrict(f"{name} isn't JSON")


def _plain(value: Any, depth: int) -> bool:
    """Say whether a value is bounded in depth, finite, and free of lone surrogates and NUL."""
    if depth < 0:
        return False
    if isinstance(value, dict):
        return all(_text(k) and _plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_plain(item, depth - 1) for item in value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return abs(value) < _LARGEST
    return not isinstance(value, float) or math.isfinite(value)


def _text(value: str) -> bool:
    return "\0" not in value and (value.isascii() or not _has_surrogate(value))


def _has_surrogate(value: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in value)
