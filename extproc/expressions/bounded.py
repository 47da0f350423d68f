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

from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2

from extproc.expressions.messages.checked_pb2 import (
    Call,
    CheckedExpr,
    Comprehension,
    Constant,
    CreateList,
    CreateStruct,
    Expr,
    Ident,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def bounded(environment: Any, compiled: Any, most: int = MOST) -> Any:
    """Return an expression of which no list that it builds has more than `most` elements.

    Nor has a text more than `MOST_LETTERS`, or a list more than `most` that is gone through for
    each element of another.

    Args:
        environment: `cel.Env` that it was compiled in.
        compiled: `cel.Expression`.
        most: elements; where there would be more, the list is an error.
    """
    written = any_pb2.Any.FromString(compiled.serialize())
    checked = CheckedExpr.FromString(written.value)
    nodes = list(_nodes(checked.expr))
    again = _repeated(nodes)
    built = [
        node
        for node in nodes
        if _builds(node) or _multiplies(node) or (node.id in again and _seeks(node))
    ]
    if not built:
        return compiled
    maker = _Nodes(max(node.id for node in nodes))
    for node in reversed(built):  # what stands in another one first: it is copied with it
        if node.call_expr.function == _IN:
            _found(node, maker, most)
        elif node.HasField("call_expr"):
            _short(node, maker)
        else:
            _condition(node.comprehension_expr, maker, most)
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


def _multiplies(node: Expr) -> bool:
    """Say whether a node puts one text into another, or between others, as often as may be."""
    call = node.call_expr
    place = _PUTS_IN.get(call.function)
    if place is None or len(call.args) <= place or not call.HasField("target"):
        return False
    if len(call.args) > place + 1 and call.args[place + 1].const_expr.int64_value in _FEW:
        return False
    return not (_is_written(call.target) or _is_written(call.args[place]))


def _repeated(nodes: list[Expr]) -> set[int]:
    """Return the numbers of the nodes that are evaluated for each element of something."""
    loops = [node.comprehension_expr for node in nodes if node.HasField("comprehension_expr")]
    parts = [part for loop in loops for part in (loop.loop_condition, loop.loop_step)]
    return {node.id for part in parts for node in _nodes(part)}


def _seeks(node: Expr) -> bool:
    """Say whether a node looks for something in a list that isn't written out."""
    call = node.call_expr
    return call.function == _IN and not _is_written(call.args[1])


def _is_written(node: Expr) -> bool:
    return node.WhichOneof("expr_kind") in {"const_expr", "list_expr"}


class _Nodes:
    """Makes nodes, each with a number of its own.

    Args:
        number: the largest that there is.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def make(self, **kind: Any) -> Expr:
        self.number += 1
        return Expr(id=self.number, **kind)

    def call(self, function: str, *arguments: Expr) -> Expr:
        return self.make(call_expr=Call(function=function, args=arguments))

    def ident(self, name: str) -> Expr:
        return self.make(ident_expr=Ident(name=name))

    def constant(self, value: int) -> Expr:
        return self.make(const_expr=Constant(int64_value=value))

    def error(self, text: str) -> Expr:
        key = self.make(const_expr=Constant(string_value=text))
        return self.call("_[_]", self.make(struct_expr=CreateStruct()), key)  # it isn't there

    def named(self, name: str, value: Expr, result: Expr) -> Expr:
        """Return `result`, in which a name stands for a value: it is evaluated once."""
        through_nothing = Comprehension(
            iter_var="@none",
            iter_range=self.make(list_expr=CreateList()),
            accu_var=name,
            accu_init=value,
            loop_condition=self.call("_<_", self.constant(1), self.constant(0)),
            loop_step=self.ident(name),
            result=result,
        )
        return self.make(comprehension_expr=through_nothing)

    def instead(self, node: Expr, held: dict[str, Expr], fits: Expr, error: str) -> None:
        """Put `fits ? the call : an error` in a call's place.

        Args:
            node: the call, to change.
            held: its operands that `fits` reads, by the names that it has for them.
            fits: the condition.
            error: what the runtime says where it doesn't hold.
        """
        values = []
        for name, operand in held.items():
            value = Expr()
            value.CopyFrom(operand)
            values.append((name, value))
            operand.CopyFrom(self.ident(name))
        the_call = self.make(call_expr=node.call_expr)
        judged = self.call("_?_:_", fits, the_call, self.error(error))
        for name, value in reversed(values):
            judged = self.named(name, value, judged)
        number = node.id  # by which the type of what it gives is known
        node.CopyFrom(judged)
        node.id = number


def _short(node: Expr, maker: _Nodes) -> None:
    """Make a call `size(text) * size(what is put in) <= MOST_LETTERS ? the call : {}[…]`."""
    call = node.call_expr
    of, put = f"@of{node.id}", f"@put{node.id}"
    held = {of: call.target, put: call.args[_PUTS_IN[call.function]]}
    sizes = [maker.call("size", maker.ident(name)) for name in held]
    fits = maker.call("_<=_", maker.call("_*_", *sizes), maker.constant(MOST_LETTERS))
    maker.instead(node, held, fits, TOO_MANY_LETTERS)


def _found(node: Expr, maker: _Nodes, most: int) -> None:
    """Make `x in y` of a loop `type(y) == type({}) || size(y) <= most ? x in y : {}[…]`.

    In a map a key is found at once.
    """
    name = f"@in{node.id}"
    a_map = maker.make(struct_expr=CreateStruct())
    keyed = maker.call("_==_", maker.call("type", maker.ident(name)), maker.call("type", a_map))
    few = maker.call("_<=_", maker.call("size", maker.ident(name)), maker.constant(most))
    fits = maker.call("_||_", keyed, few)
    maker.instead(node, {name: node.call_expr.args[1]}, fits, TOO_MANY)


def _condition(comprehension: Comprehension, maker: _Nodes, most: int) -> None:
    """Make what is done for each element `size(list) < most ? what it was : {}[TOO_LONG]`."""
    size = maker.call("size", maker.ident(comprehension.accu_var))
    fits = maker.call("_<_", size, maker.constant(most))
    step = Expr()
    step.CopyFrom(comprehension.loop_step)
    comprehension.loop_step.CopyFrom(maker.call("_?_:_", fits, step, maker.error(TOO_LONG)))
