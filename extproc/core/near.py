"""A misspelt name gets the one that was meant, or all that there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def near(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return `did you mean …?`.

    Args:
        name: as written.
        known: those that there are, in the order in which they are shown.
        otherwise: what is said where none is near; None for all that there are.
    """
    names = list(known)
    found = difflib.get_close_matches(name, names, 1)
    if found:
        return f"did you mean {found[0]}?"
    if otherwise is not None:
        return otherwise
    return f"expected one of {', '.join(names)}" if names else ""
