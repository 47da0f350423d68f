"""Time zones that an expression takes from data: those that exist, and no other.

The runtime asks the system for a zone by whatever name it gets. It opens the file of that name,
also one with a path of its own, where it waits if that is a pipe; and it remembers each name for as
long as it runs, whether there is such a zone or not. So a name that isn't written out is looked up
here before.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from cel_expr_python import cel

if TYPE_CHECKING:
    from extproc.expressions.rewriting import Tree

NO_ZONE = "it asks for a time zone that doesn't exist"

_IN_ZONE = frozenset(
    {
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    }
)
_EXISTS = "@zone"
_OFFSET = re.compile(r"[+-]?\d\d:\d\d\Z", re.ASCII)


def look_up(tree: Tree) -> bool:
    """Have each time zone in an expression looked up that isn't written out.

    Returns:
        Whether there is any.
    """
    found = False
    for node in tree.nodes:
        call = node.call_expr  # an empty one where the node is something else
        if call.function in _IN_ZONE and call.args and not call.args[0].HasField("const_expr"):
            name = f"{_EXISTS}{node.id}"
            exists = tree.make.call(_EXISTS, tree.make.ident(name))
            tree.guard(node, {name: call.args[0]}, exists, NO_ZONE)
            found = True
    return found


def function() -> Any:
    """Return the function that such expressions call, for a `cel.Env`."""
    kinds = cel.Type
    exists = cel.Overload(f"{_EXISTS} 0", kinds.BOOL, [kinds.STRING], False, _exists)  # noqa: FBT003 - it has no names
    return cel.FunctionDecl(_EXISTS, [exists])


def _exists(name: str) -> bool:
    return name in _known() or _OFFSET.match(name) is not None


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset({"", "UTC", *available_timezones()})  # none is UTC to the runtime
