"""Which of a query belongs to a key, where only some parameters count.

What counts is found under every name that an upstream may take for a declared one: escaped, with
other letters' case, with brackets, between semicolons. Whatever is left out of the key nobody may
read as a declared parameter, or one client would choose what others get. What counts is kept as it
was sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

Parameters = frozenset[str] | None
_BLANK = re.compile(r"[\s.+]")  # all of it is `_` for some


def target_with(parameters: Parameters, path: str, query: str) -> str:
    """Return a path with the parameters of a query that count; with all of it for None.

    An empty query is none.
    """
    if parameters is None:
        return f"{path}?{query}" if query else path
    return f"{path}?{counted(parameters, query)}"


def counted(parameters: frozenset[str], query: str) -> str:
    """Return the parameters of a query that count, in order of their names.

    Among those of one name the order says something, and so it does among all where a name can't
    be told.
    """
    wanted = _all_meant(parameters)
    if not wanted:
        return ""
    kept, told = [], True
    for pair in query.split("&"):
        names = [meant(part.partition("=")[0]) for part in pair.split(";")]
        if any(name is None or name in wanted for name in names):
            kept.append((names[0] or "", pair))
            told = told and len(names) == 1 and names[0] is not None
    if told:
        kept.sort(key=lambda one: one[0])
    return "&".join([pair for _, pair in kept])


def meant(name: str) -> str | None:
    """Return the parameter that a name may be taken for; None where that can't be told.

    Args:
        name: as it was sent.
    """
    if name.isascii() and name.isidentifier():
        return name.lower()
    try:
        text = unquote_to_bytes(name.encode("latin-1")).decode()
    except UnicodeError:
        return None
    # An escape that is left is none, or is for somebody who undoes them twice.
    if "%" in text or not text.isprintable() or ("[" in text and "]" not in text):
        return None
    return _plain(text)


def _plain(text: str) -> str:
    """Return a name in the form in which it is compared: `a.b[c]` is a part of `a_b`."""
    return _BLANK.sub("_", text.partition("[")[0].strip(" +")).casefold()


@lru_cache(maxsize=256)
def _all_meant(parameters: frozenset[str]) -> frozenset[str]:
    return frozenset(map(_plain, parameters)) | {
        name for name in map(meant, parameters) if name is not None
    }
