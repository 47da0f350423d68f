"""Cache-Control (RFC 9111 section 5.2) and the fields that stand in for it (RFC 9213)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from extproc.caching.fields import NAME, QUOTED, members, unquoted
from extproc.caching.structured import NotStructured, Token, dictionary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.caching.structured import Member
    from extproc.core.headers import Headers

LONGEST = 2**31  # seconds; section 1.2.2
# Whom responses may address before everybody (RFC 9213 section 2.1), the nearest first.
TARGETS = ("extproc-cache-control", "cdn-cache-control")
_DIRECTIVE = re.compile(rf"({NAME})(?:=({NAME}|{QUOTED}))?\Z")
_NAME = re.compile(NAME)
_DIGITS = re.compile(r"\d+\Z", re.ASCII)
_INVALID = ""  # no argument that can be read
_LONGEST_REMEMBERED = 512
_LONGEST_READ = 4096  # characters of all lines; more says nothing but takes its time
_TIMES = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


class Directives:
    """Directives by name; what is wrong about one makes the response more stale, never less."""

    __slots__ = ("_arguments", "targeted")

    def __init__(
        self, arguments: Mapping[str, tuple[str | None, ...]], *, targeted: bool = False
    ) -> None:
        self._arguments = arguments
        self.targeted = targeted

    def __contains__(self, name: str) -> bool:
        """Say whether the directive is there, with or without an argument."""
        return name in self._arguments

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._arguments)

    def without(self, name: str) -> Directives:
        """Return the others."""
        return Directives({n: a for n, a in self._arguments.items() if n != name})

    def argument(self, name: str) -> str | None:
        """Return the first argument; None where there is none."""
        arguments = self._arguments.get(name)
        return arguments[0] if arguments else None

    def seconds(self, name: str) -> int | None:
        """Return an argument in seconds; None if the directive isn't there.

        One that can't be read is 0; of several that differ the least counts: such a response
        should be thought stale (section 4.2.1).
        """
        arguments = self._arguments.get(name)
        if arguments is None:
            return None
        return min(map(_seconds, arguments))


NONE = Directives({})
_TOO_LONG = Directives({"no-store": (None,), "no-cache": (None,)})


def _seconds(argument: str | None) -> int:
    if argument is None or not _DIGITS.match(argument):
        return 0
    return min(int(argument[:20]), LONGEST)


def directives(headers: Headers) -> Directives:
    """Read Cache-Control; what is too long to be read is taken for `no-store, no-cache`."""
    values = headers.get_all("cache-control")
    if not values:
        return NONE
    length = sum(map(len, values))
    if length <= _LONGEST_REMEMBERED:
        return _read_again(tuple(values))
    return _read(tuple(values)) if length <= _LONGEST_READ else _TOO_LONG


def _read(values: tuple[str, ...]) -> Directives:
    found: dict[str, tuple[str | None, ...]] = {}
    for member in members(values):
        match = _DIRECTIVE.match(member)
        if match is not None:
            name, argument = match[1].lower(), match[2]
            text = None if argument is None else unquoted(argument)
        else:
            # It is there, though nobody can say what it says: `max-age =60`, `max-age=a b`.
            begins = _NAME.match(member)
            if begins is None:
                continue
            name, text = begins[0].lower(), _INVALID
        found[name] = (*found.get(name, ()), text)
    return Directives(found)


_read_again = lru_cache(maxsize=1024)(_read)


def of_response(headers: Headers) -> Directives:
    """Read what a response says to a shared cache: a field that addresses us, else Cache-Control.

    A targeted field that can't be read, or is empty, is as if it weren't there (RFC 9213
    section 2.1); one that can be read replaces Cache-Control and Expires.
    """
    for target in TARGETS:
        values = headers.get_all(target)
        if values:
            found = _targeted(tuple(values))
            if found is not None:
                return found
    return directives(headers)


def _targeted(values: tuple[str, ...]) -> Directives | None:
    if sum(map(len, values)) > _LONGEST_READ:
        return _TOO_LONG
    try:
        read = dictionary(values)
    except NotStructured:
        return None
    if not read:
        return None
    found: dict[str, tuple[str | None, ...]] = {}
    for name, value in read.items():
        if name in _TIMES and (not isinstance(value, int) or isinstance(value, bool)):
            return None
        if value is not False:
            found[name] = (_argument(value),)
    return Directives(found, targeted=True)


def _argument(value: Member) -> str | None:
    if value is True:
        return None
    if isinstance(value, Token):
        return value.text
    return str(value)
