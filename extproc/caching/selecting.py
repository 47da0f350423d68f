"""Which of several stored responses a request selects: Vary (RFC 9111 section 4.1)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from extproc.caching.fields import WEIGHT, members, names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.headers import Headers

MOST_NAMES = 16
_LONGEST_NAME = 64
# The upstream always gets the same, and what the client gets is encoded after us.
_SAME_FOR_ALL = frozenset({"accept-encoding"})
# Preferences: among members of equal weight the order says nothing (RFC 9110 section 12.5).
_PREFERENCES = frozenset({"accept", "accept-charset", "accept-language"})
# Fields that are lists by their specification: white space beside a comma, and a member that is
# empty, say nothing. Of other fields nobody knows that.
_LISTS = _PREFERENCES | {"cache-control", "if-match", "if-none-match", "prefer", "save-data", "te"}
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_LONGEST = 256  # characters that are compared, and remembered, as they are

Selecting = tuple[tuple[str, str | None], ...]


def varying(headers: Headers) -> tuple[str, ...] | None:
    """Return the request fields that select a response; None if none can (`*`, or too many)."""
    lines = headers.get_all("vary")
    if not lines:
        return ()
    found = sorted(set(names(lines)) - _SAME_FOR_ALL)
    if "*" in found or len(found) > MOST_NAMES or any(len(name) > _LONGEST_NAME for name in found):
        return None
    return tuple(found)


def selects(fields: Iterable[str], headers: Headers) -> Selecting:
    """Return the values by which a request selects, each in its normal form; None for absent."""
    return tuple([(name, normal(name, headers.get(name))) for name in fields])


def selected(
    selecting: Selecting, headers: Headers, known: dict[str, str | None] | None = None
) -> bool:
    """Say whether a request selects what is stored under these values.

    Args:
        selecting: of what is stored.
        headers: of the request.
        known: the request's values that were put in their normal form before, of which there are
            more then: what a client sent at length isn't to be read again for each variant.
    """
    known = {} if known is None else known
    for name, value in selecting:
        if name not in known:
            known[name] = normal(name, headers.get(name))
        if known[name] != value:
            return False
    return True


def normal(name: str, value: str | None) -> str | None:
    """Return a field's value in a form that is equal for values that say the same.

    A digest stands for a long one; no field can hold what it begins with.
    """
    if value is None:
        return None
    if name in _SECRET:
        return _digest(value)
    if len(value) <= _LONGEST:
        return _normal_again(name, value)
    found = _normal(name, value)
    return found if len(found) <= _LONGEST else f"\0{_digest(found)}"


def _digest(value: str) -> str:
    return hashlib.blake2b(value.encode("latin-1"), digest_size=16).hexdigest()


def _normal(name: str, value: str) -> str:
    if name not in _LISTS:
        return value
    found = members((value,))
    if name in _PREFERENCES:
        return ",".join(sorted(_preference(member) for member in found))
    return ",".join(found)


_normal_again = lru_cache(maxsize=4096)(_normal)


def _preference(member: str) -> str:
    """Return a member with its weight; 1 is left out.

    What it is and the names of parameters are in lower case; what these hold may differ in case
    (RFC 9110 section 5.6.6).
    """
    what, *parameters = [part.strip(" \t") for part in member.split(";")]
    kept = [what.lower()]
    for parameter in parameters:
        weight = WEIGHT.match(parameter)
        if weight is None:
            name, equals, held = parameter.partition("=")
            kept.append(name.lower() + equals + held)
        elif float(weight[1]) < 1:
            kept.append(f"q={float(weight[1]):g}")
    return ";".join(kept)
