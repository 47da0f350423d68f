"""Bounds on what an expression builds: lists by `map` and `filter`, texts by `replace` and `join`.

And on what it looks through, again and again: a list in which each element of another is sought.

The runtime copies such a list for each element that it appends: nine thousand elements, which a
body of 20 KB has, take over a gigabyte and seconds in which nothing can interrupt it. What an
expression is made of is plain data, though, so a condition is put before what appends: past so many
elements the list is an error, as whatever CEL can't evaluate is.

So is a text in which another one may stand too often: where both are a client's, a hundred letters
are ten thousand, and the 60 KB of a request's head a gigabyte.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from extproc.expressions.messages.checked_pb2 import CreateStruct, Expr
from extproc.expressions.metered import meter
from extproc.expressions.rewriting import is_written
from extproc.expressions.zones import look_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.expressions.messages.checked_pb2 import Comprehension
    from extproc.expressions.rewriting import Maker, Tree

MOST = 1000
"""Elements of a list that `map` or `filter` gives: 16 MB of memory until the expression's end."""
TOO_LONG = "a list that map or filter gives has too many elements"
MOST_LETTERS = 1 << 24
"""Of a text that `replace` or `join` may give, if one that isn't written out is put in."""
TOO_MANY_LETTERS = "a text that replace or join gives may be too long"
TOO_MANY = "a list in which each element of another is sought has too many"
_PUTS_IN = {"replace": 1, "join": 0}  # which argument
_IN = "@in"
_FEW = range(1, 10)  # times, where they are written out


class Bounded(NamedTuple):
    """An expression that has its bounds.

    Attributes:
        compiled: `cel.Expression`.
        builds: it makes lists, or texts of others.
        metered: it has to be evaluated by `metered.paid`.
    """

    compiled: Any
    builds: bool
    metered: bool


def bounded(
    environment: Any, tree: Tree, most: int = MOST, *, paying: Callable[[], Any]
) -> Bounded:
    """Return an expression of which no list that it builds has more than `most` elements.

    Nor has a text more than `MOST_LETTERS`, or a list more than `most` that is gone through for
    each element of another; what it looks through is paid for, see `metered`, and a time zone that
    isn't written out is looked up, see `zones`.

    Args:
        environment: `cel.Env` that it was compiled in.
        tree: its nodes, which are changed.
        most: elements; where there would be more, the list is an error.
        paying: gives the same one with `metered.functions()`.
    """
    builds = False
    for node in tree.nodes:
        if _builds(node):
            tree.loop(node, partial(_condition, tree.make, most))
            builds = True
        elif _multiplies(node):
            _short(tree, node)
            builds = True
        elif node.id in tree.again and _seeks(node):
            _found(tree, node, most)
    look_up(tree)
    metered = meter(tree)
    written = tree.written(paying if metered else lambda: environment)
    return Bounded(written or tree.compiled, builds, metered)


def _builds(node: Expr) -> bool:
    """Say whether a node goes through something and gathers a list: it begins with an empty one."""
    of = node.comprehension_expr  # an empty one where the node is something else
    return bool(of.accu_init.WhichOneof("expr_kind") == "list_expr")


def _multiplies(node: Expr) -> bool:
    """Say whether a node puts one text into another, or between others, as often as may be."""
    call = node.call_expr
    place = _PUTS_IN.get(call.function)
    if place is None or len(call.args) <= place or not call.HasField("target"):
        return False
    if len(call.args) > place + 1 and call.args[place + 1].const_expr.int64_value in _FEW:
        return False
    return not (is_written(call.target) or is_written(call.args[place]))


def _seeks(node: Expr) -> bool:
    """Say whether a node looks for something in a list that isn't written out."""
    call = node.call_expr
    return call.function == _IN and not is_written(call.args[1])


def _short(tree: Tree, node: Expr) -> None:
    """Make a call `size(text) * size(what is put in) <= MOST_LETTERS ? the call : {}[…]`."""
    call, make = node.call_expr, tree.make
    held = {f"@of{node.id}": call.target, f"@put{node.id}": call.args[_PUTS_IN[call.function]]}
    sizes = [make.call("size", make.ident(name)) for name in held]
    fits = make.call("_<=_", make.call("_*_", *sizes), make.constant(MOST_LETTERS))
    tree.guard(node, held, fits, TOO_MANY_LETTERS)


def _found(tree: Tree, node: Expr, most: int) -> None:
    """Make `x in y` of a loop `type(y) == type({}) || size(y) <= most ? x in y : {}[…]`.

    In a map a key is found at once.
    """
    name, make = f"@in{node.id}", tree.make
    keyed = make.is_like(name, make.make(struct_expr=CreateStruct()))
    few = make.call("_<=_", make.call("size", make.ident(name)), make.constant(most))
    tree.guard(node, {name: node.call_expr.args[1]}, make.call("_||_", keyed, few), TOO_MANY)


def _condition(make: Maker, most: int, comprehension: Comprehension) -> None:
    """Make what is done for each element `size(list) < most ? what it was : {}[TOO_LONG]`."""
    size = make.call("size", make.ident(comprehension.accu_var))
    fits = make.call("_<_", size, make.constant(most))
    step = Expr()
    step.CopyFrom(comprehension.loop_step)
    comprehension.loop_step.CopyFrom(make.call("_?_:_", fits, step, make.error(TOO_LONG)))
