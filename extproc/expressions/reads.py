"""What an expression reads, told from its source: names, and the keys of a map it writes out."""

from __future__ import annotations

import re

# A literal, or a comment: what stands in one is no name. Dots may have blanks around them.
_LITERALS = re.compile(
    r"""(r?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))|//[^\n]*""", re.DOTALL
)
_DOTS = re.compile(r"\s*\.\s*")
# `map.key`, `map["key"]`, and `"key" in map`; each text in quotes stands there as its number.
_ACCESS = r"""(?<![\w.]){name}(?:\.([A-Za-z_]\w*)(?!\w|\s*\()|\["(\d+)"\])"""
_MEMBER = r"""()"(\d+)"\s+in\s+{name}(?![\w.\[])"""
_ASKED = r"""\bhas\s*\(\s*{name}\.(\w+)\s*\)"""
# `map.all(k, …)` goes through the names of all keys, and through no value.
_MACRO = r"""(?<![\w.]){name}\.(?:all|exists|exists_one|filter|map)\s*\("""
# `text.matches("pattern")` and `matches(text, "pattern")`, the pattern as its number.
_PATTERN = re.compile(r"""\bmatches\s*\((?:[^()"]*,)?\s*"(\d+)"\s*\)""")


def patterns_of(source: str) -> list[str]:
    """Return the literals that stand as a pattern of `matches`."""
    bare, texts = with_numbers(source)
    return [texts[int(number)] for number in _PATTERN.findall(bare)]


def names_read(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which declared names an expression reads (literals and comments aren't read)."""
    bare, _ = with_numbers(source)
    return tuple(name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", bare))


def with_numbers(source: str) -> tuple[str, list[str]]:
    """Return CEL's source without comments and blanks around dots, and the literals in it.

    Each literal stands there as its number in quotes, its place in the list.
    """
    literals: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if not found[1]:
            return " "  # a comment
        literals.append(found[1])
        return f'"{len(literals) - 1}"'

    return _DOTS.sub(".", _LITERALS.sub(numbered, source)), literals


def keys_read(source: str, name: str, *, values: bool = False) -> tuple[str, ...] | None:
    """Return which keys of a map an expression reads; None if it may be any.

    Args:
        source: CEL.
        name: of the map.
        values: what goes through the names of all keys doesn't count.
    """
    bare, texts = with_numbers(source)
    quoted = re.escape(name)
    found = re.findall(_ACCESS.format(name=quoted), bare)
    found += re.findall(_MEMBER.format(name=quoted), bare)
    keys = [field or _content(texts[int(number)]) for field, number in found]
    mentions = len(re.findall(rf"(?<![\w.]){quoted}(?!\w)", bare))
    if values:
        mentions -= len(re.findall(_MACRO.format(name=quoted), bare))
    if len(found) != mentions or None in keys:
        return None
    return tuple(dict.fromkeys(filter(None, keys)))


def keys_demanded(source: str, name: str) -> tuple[str, ...]:
    """Return the keys of a map that an expression writes out, but for those it asks for first.

    Args:
        source: CEL.
        name: of the map.
    """
    bare, texts = with_numbers(source)
    quoted = re.escape(name)
    asked = set(re.findall(_ASKED.format(name=quoted), bare))
    asked |= {_content(texts[int(n)]) for _, n in re.findall(_MEMBER.format(name=quoted), bare)}
    found = re.findall(_ACCESS.format(name=quoted), bare)
    keys = [field or _content(texts[int(number)]) for field, number in found]
    return tuple(dict.fromkeys(key for key in keys if key and key not in asked))


def _content(literal: str) -> str | None:
    """Return what a plain literal holds; None for one with escapes or in another form."""
    content = literal[1:-1]
    plain = literal[0] in "\"'" and not content.startswith(("'", '"')) and "\\" not in content
    return content if plain else None
