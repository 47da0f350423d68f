"""How many calls a module makes: work, where time would say more about the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType


def calls_of(module: ModuleType, do: Callable[[], object]) -> int:
    """Return how many calls are made in a module, and from it, while something is done."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        ours = frame.f_code.co_filename == module.__file__
        count += ours and event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(before)
    return count
