"""A bound on the lists that an expression builds by `map` and `filter`.

The runtime copies such a list for each element that it appends: nine thousand elements, which a
body of 20 KB has, take over a gigabyte and seconds in which nothing can interrupt it. What an
expression is made of is plain data, though, so a condition is put before what appends: past so many
elements the list is an error, as whatever CEL can't evaluate is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2

from extproc.expressions.messages.checked_pb2 import (
    Call,
    CheckedExpr,
    Comprehension,
    Constant,
    CreateStruct,
    Expr,
    Ident,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 1000
"""Elements of a list that `map` or `filter` gives: 16 MB of memory until the expression's end."""
TOO_LONG = "a list that map or filter gives has too many elements"


def bounded(environment: Any, compiled: Any, most: int = MOST) -> Any:
    """Return an expression of which no list that it builds has more than `most` elements.

    Args:
        environment: `cel.Env` that it was compiled in.
        compiled: `cel.Expression`.
        most: elements; where there would be more, the list is an error.
    """
    written = any_pb2.Any.FromString(compiled.serialize())
    checked = CheckedExpr.FromString(written.value)
    nodes = list(_nodes(checked.expr))
    number = max(node.id for node in nodes)
    built = [node.comprehension_expr for node in nodes if _builds(node)]
    if not built:
        return compiled
    for comprehension in reversed(built):  # what stands in another one first: it is copied with it
        number = _condition(comprehension, number, most)
    written.value = checked.SerializeToString()
    return environment.deserialize(written.SerializeToString())


def _nodes(node: Expr) -> Iterator[Expr]:
    """Yield a node and all that stand in it."""
    yield node
    for inside in _inside(node):
        yield from _nodes(inside)


def _inside(node: Expr) -> list[Expr]:
    kind = node.WhichOneof("expr_kind")
    if kind == "select_expr":
        return [node.select_expr.operand]
    if kind == "call_expr":
        call = node.call_expr
        return [*([call.target] if call.HasField("target") else ()), *call.args]
    if kind == "list_expr":
        return list(node.list_expr.elements)
    if kind == "struct_expr":
        entries = node.struct_expr.entries
        return [entry.map_key for entry in entries] + [entry.value for entry in entries]
    if kind == "comprehension_expr":
        of = node.comprehension_expr
        return [of.iter_range, of.accu_init, of.loop_condition, of.loop_step, of.result]
    return []


def _builds(node: Expr) -> bool:
    """Say whether a node goes through something and gathers a list: it begins with an empty one."""
    of = node.comprehension_expr  # an empty one where the node is something else
    return bool(of.accu_init.WhichOneof("expr_kind") == "list_expr")


def _condition(comprehension: Comprehension, number: int, most: int) -> int:
    """Make what is done for each element `size(list) < most ? what it was : {}[TOO_LONG]`.

    Args:
        comprehension: to change.
        number: the largest that a node has.
        most: elements.

    Returns:
        The largest that a node has now.
    """

    def node(**kind: Any) -> Expr:
        nonlocal number
        number += 1
        return Expr(id=number, **kind)

    def call(function: str, *arguments: Expr) -> Expr:
        return node(call_expr=Call(function=function, args=arguments))

    step = Expr()
    step.CopyFrom(comprehension.loop_step)
    size = call("size", node(ident_expr=Ident(name=comprehension.accu_var)))
    fits = call("_<_", size, node(const_expr=Constant(int64_value=most)))
    key = node(const_expr=Constant(string_value=TOO_LONG))
    error = call("_[_]", node(struct_expr=CreateStruct()), key)  # the runtime says what isn't there
    comprehension.loop_step.CopyFrom(call("_?_:_", fits, step, error))
    return number
