"""Time zones that an expression takes from data: those that exist, and no other.

The runtime asks the system for a zone by whatever name it gets. It opens the file of that name,
also one with a path of its own, where it waits if that is a pipe; and it remembers each name for as
long as it runs, whether there is such a zone or not. So a name that isn't written out is looked up
here before: by the runtime itself, which keeps what it calls a Python function with.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from extproc.expressions.messages.checked_pb2 import CreateList

if TYPE_CHECKING:
    from extproc.expressions.messages.checked_pb2 import Expr
    from extproc.expressions.rewriting import Maker, Tree

NO_ZONE = "it asks for a time zone that doesn't exist"

_IN_ZONE = frozenset(
    {
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    }
)
_OFFSET = "^[+-]?[0-9]{2}:[0-9]{2}$"


def look_up(tree: Tree) -> None:
    """Have each time zone in an expression looked up that isn't written out."""
    for node in tree.nodes:
        call = node.call_expr  # an empty one where the node is something else
        if call.function in _IN_ZONE and call.args and not call.args[0].HasField("const_expr"):
            name = f"@zone{node.id}"
            tree.guard(node, {name: call.args[0]}, _exists(tree.make, name), NO_ZONE)


def _exists(make: Maker, name: str) -> Expr:
    """Make `name in [zones] || name.matches(an offset)`."""
    known = make.make(list_expr=CreateList(elements=map(make.text, _known())))
    offset = make.call("matches", make.ident(name), make.text(_OFFSET))
    return make.call("_||_", make.call("@in", make.ident(name), known), offset)


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    return tuple(sorted({"", "UTC", *available_timezones()}))  # none is UTC to the runtime
