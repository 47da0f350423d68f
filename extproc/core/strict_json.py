"""JSON (RFC 8259) read in the one way that every reader agrees on; everything else is refused.

Two parsers of one text may take different members of the same name, other numbers, another
encoding. What is judged must be what a backend reads, so such texts aren't read at all.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHARSETS = frozenset({"charset=utf-8", 'charset="utf-8"'})
_MARK = b"\xef\xbb\xbf"
_LARGEST = str(1 << 63).encode()

_BLANKS = b" \t\r\n"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# As signed bytes: a level more, or one less.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
# Digits alone matter: nineteen in a row may be more than 64 bits.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_MAY_BE_TOO_LONG = b"0" * 19
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?([0-9]{19,}+)(?![.eE])")


class NotStrict(ValueError):
    """The text isn't JSON, or readers may differ about it."""


def read(data: bytes, *, deepest: int = 32, fold: bool = False) -> Any:
    """Read one value: UTF-8 without a mark, no member twice, bounded depth, plain numbers.

    Nothing here is done in Python for each value: who sends a large text makes others wait.

    Args:
        data: the text.
        deepest: how far values may be nested; 200 at most.
        fold: whether members that differ by capitals alone count as the same.

    Raises:
        NotStrict: it is something else.
    """
    if data.startswith(_MARK):
        raise NotStrict("it begins with a byte order mark")
    outside = without_texts(data)
    # Before anything is built of it: a list for each bracket is most of what reading takes.
    if _is_deeper(outside, deepest):
        raise NotStrict("it is nested too deep")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotStrict(f"it isn't JSON in UTF-8 ({error.msg})") from error
    if _has_large_integer(outside):
        raise NotStrict("it holds an integer that readers take differently")
    if _has_nul(data):
        raise NotStrict("it holds a character that readers take differently (NUL)")
    _refuse_twice(value, outside.count(b":"), fold=fold)
    return value


def without_texts(data: bytes) -> bytes:
    """Return JSON with a letter for each text in it: what is left means what it seems to."""
    if b"\\" in data:
        # Backslashes stand in texts alone, and pair from the left.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"t".join(data.split(b'"')[::2])


def levels(outside: bytes) -> int:
    """Return how many lists and maps stand in one another, in JSON without its texts."""
    steps = array("b", outside.translate(_STEPS, _ALL_BUT_BRACKETS))
    return max(accumulate(steps), default=0)


def may_hold_large_integer(data: bytes) -> bool:
    """Say whether there are as many digits in a row as an integer of more than 64 bits has."""
    return _MAY_BE_TOO_LONG in data.translate(_DIGITS)


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


def _is_deeper(outside: bytes, deepest: int) -> bool:
    """Say whether a value stands in more lists and maps than it may; an empty one is a value."""
    if outside.count(b"[") + outside.count(b"{") <= deepest:
        return False
    dense = outside.translate(None, _BLANKS)
    return levels(dense.replace(b"[]", b"t").replace(b"{}", b"t")) > deepest


def _has_large_integer(outside: bytes) -> bool:
    """Say whether an integer isn't between -2^63 and 2^63."""
    if not may_hold_large_integer(outside):
        return False
    return any(
        len(digits) > len(_LARGEST) or digits >= _LARGEST
        for digits in _LONG_INTEGER.findall(outside)
    )


def _has_nul(data: bytes) -> bool:
    if b"\\u0000" not in data:
        return False
    return b"\\u0000" in data.replace(b"\\\\", b"")


def _refuse_twice(value: Any, members: int, *, fold: bool) -> None:
    """Refuse a text with more members than its value has: one was there twice.

    Args:
        value: what was read.
        members: how many there are in its text.
        fold: whether capitals make no difference.

    Raises:
        NotStrict: it is so.
    """
    if not members:
        return
    written = orjson.dumps(value)
    if without_texts(written).count(b":") != members:
        raise NotStrict("a member is there twice")
    if not fold:
        return
    # Written again, a text has no escapes that stand for letters, so all of it can be folded.
    text = written.decode()
    folded = text.casefold()
    if folded == text:
        return
    again = orjson.dumps(orjson.loads(folded))
    if without_texts(again).count(b":") != members:
        raise NotStrict("a member is there twice, or in other capitals")
