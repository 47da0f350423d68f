"""Dictionaries and lists of structured fields (RFC 9651), read strictly: all of it or nothing.

What a cache needs of them: targeted cache control (RFC 9213) and cache groups (RFC 9875).
Parameters are checked and left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(r"-?(?:\d{1,12}\.\d{1,3}|\d{1,15})(?![\d.])")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN = re.compile(r"\?([01])")
_DATE = re.compile(r"@(-?\d{1,15})(?![\d.])")
_DISPLAY = re.compile(r'%"(?:[\x20\x21\x23-\x24\x26-\x7e]|%[0-9a-f]{2})*"')
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACES = re.compile(r" *")


class NotStructured(ValueError):
    """A value isn't what its field is defined as."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, which is no string."""

    text: str


Item = int | float | str | bool | bytes | Token
Member = Item | tuple[Item, ...]


def dictionary(values: Iterable[str]) -> dict[str, Member]:
    """Read a dictionary; of a key that comes twice the last counts (section 4.2.2).

    Raises:
        NotStructured: it is none.
    """
    reader = _Reader(", ".join(values).strip(" "))
    found: dict[str, Member] = {}
    while not reader.ended:
        key = reader.key()
        if reader.takes("="):
            found[key] = reader.member()
        else:
            reader.parameters()
            found[key] = True
        reader.comma()
    return found


def listed(values: Iterable[str]) -> list[Member]:
    """Read a list.

    Raises:
        NotStructured: it is none.
    """
    reader = _Reader(", ".join(values).strip(" "))
    found: list[Member] = []
    while not reader.ended:
        found.append(reader.member())
        reader.comma()
    return found


class _Reader:
    """Reads from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._text)

    def takes(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def key(self) -> str:
        found = self._match(_KEY)
        if found is None:
            raise NotStructured("expected a key")
        return found[0]

    def comma(self) -> None:
        """Take a comma between members; one at the end is an error."""
        if self.ended:
            return
        if self._match(_COMMA) is None or self.ended:
            raise NotStructured("expected a member after a comma")

    def member(self) -> Member:
        value = self._inner() if self.takes("(") else self._item()
        self.parameters()
        return value

    def _inner(self) -> tuple[Item, ...]:
        items: list[Item] = []
        while True:
            self._match(_SPACES)
            if self.takes(")"):
                return tuple(items)
            items.append(self._item())
            self.parameters()
            if not self._text.startswith((" ", ")"), self._at):
                raise NotStructured("expected a space or )")

    def parameters(self) -> None:
        while self.takes(";"):
            self._match(_SPACES)
            self.key()
            if self.takes("="):
                self._item()

    def _item(self) -> Item:
        if (found := self._match(_NUMBER)) is not None:
            return float(found[0]) if "." in found[0] else int(found[0])
        if (found := self._match(_STRING)) is not None:
            return re.sub(r"\\(.)", r"\1", found[1])
        if (found := self._match(_TOKEN)) is not None:
            return Token(found[0])
        if (found := self._match(_BOOLEAN)) is not None:
            return found[1] == "1"
        return self._rare()

    def _rare(self) -> Item:
        if (found := self._match(_DATE)) is not None:
            return int(found[1])
        if (found := self._match(_DISPLAY)) is not None:
            return found[0]
        if (found := self._match(_BYTES)) is not None:
            try:
                return base64.b64decode(found[1])
            except binascii.Error as error:
                raise NotStructured("expected base64") from error
        raise NotStructured("expected an item")
