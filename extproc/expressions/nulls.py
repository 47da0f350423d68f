"""References to None, which the CEL runtime gives away without having them.

Each null in what its `plain_value` returns takes one reference away. A client whose list of two
hundred thousand nulls is a hole's value would have the process deallocate None, which aborts it.
Since Python 3.12 None isn't counted (PEP 683).
"""

from __future__ import annotations

import ctypes
import sys

_ENOUGH = 1 << 40
_COUNTED_FIRST = 16  # bytes of an object that holds its count and its type, and nothing before


def hold() -> None:
    """See to it that there are more references than the runtime can ever take."""
    counts = sys.version_info < (3, 12) and object.__basicsize__ == _COUNTED_FIRST
    if counts and sys.getrefcount(None) < _ENOUGH // 2:
        ctypes.c_ssize_t.from_address(id(None)).value += _ENOUGH
