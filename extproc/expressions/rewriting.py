"""A compiled expression as the tree it is, with conditions put before some of its nodes.

What is found in the tree is asked for first, then everything is changed at once, from the inside
out: what stands in another node is copied with it.
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
    from collections.abc import Callable, Iterator


class Tree:
    """The nodes of one expression.

    Args:
        compiled: `cel.Expression`.

    Attributes:
        compiled: the same.
        nodes: each of them; what stands in another one comes behind it.
        again: the numbers of those that are evaluated for each element of something.
        make: makes further ones.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._whole = any_pb2.Any.FromString(compiled.serialize())
        self._checked = CheckedExpr.FromString(self._whole.value)
        self.nodes = list(_nodes(self._checked.expr))
        self.again = _repeated(self.nodes)
        self.make = Maker(max(node.id for node in self.nodes))
        self._guards: dict[int, list[tuple[dict[str, Expr], Expr, str]]] = {}
        self._loops: dict[int, list[Callable[[Comprehension], None]]] = {}

    def guard(self, node: Expr, held: dict[str, Expr], fits: Expr, error: str) -> None:
        """Have `fits ? the call : an error` stand in a call's place.

        Args:
            node: the call.
            held: its operands that `fits` reads, by the names that it has for them.
            fits: the condition.
            error: what the runtime says where it doesn't hold.
        """
        self._guards.setdefault(node.id, []).append((held, fits, error))

    def loop(self, node: Expr, change: Callable[[Comprehension], None]) -> None:
        """Have what goes through something changed."""
        self._loops.setdefault(node.id, []).append(change)

    def written(self, environment: Callable[[], Any]) -> Any:
        """Return the expression with all of that; None where there was nothing to do.

        Args:
            environment: gives the `cel.Env` that it was compiled in, with what it calls now.
        """
        if not self._guards and not self._loops:
            return None
        for node in reversed(self.nodes):
            number = node.id
            for change in self._loops.get(number, ()):
                change(node.comprehension_expr)
            if number in self._guards:
                self._guarded(node, self._guards[number])
        self._whole.value = self._checked.SerializeToString()
        return environment().deserialize(self._whole.SerializeToString())

    def _guarded(self, node: Expr, guards: list[tuple[dict[str, Expr], Expr, str]]) -> None:
        values = []
        for held, _, _ in guards:
            for name, operand in held.items():
                value = Expr()
                value.CopyFrom(operand)
                values.append((name, value))
                operand.CopyFrom(self.make.ident(name))
        judged = self.make.make(call_expr=node.call_expr)
        for _, fits, error in reversed(guards):
            judged = self.make.call("_?_:_", fits, judged, self.make.error(error))
        for name, value in reversed(values):
            judged = self.make.named(name, value, judged)
        number = node.id  # by which the type of what it gives is known
        node.CopyFrom(judged)
        node.id = number


class Maker:
    """Makes nodes, each with a number of its own.

    Args:
        number: the largest that there is.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def make(self, **kind: Any) -> Expr:
        """Return a node of a kind."""
        self._number += 1
        return Expr(id=self._number, **kind)

    def call(self, function: str, *arguments: Expr) -> Expr:
        """Return the call of a function that is no member."""
        return self.make(call_expr=Call(function=function, args=arguments))

    def ident(self, name: str) -> Expr:
        """Return a name."""
        return self.make(ident_expr=Ident(name=name))

    def constant(self, value: int) -> Expr:
        """Return a number."""
        return self.make(const_expr=Constant(int64_value=value))

    def text(self, value: str) -> Expr:
        """Return a text."""
        return self.make(const_expr=Constant(string_value=value))

    def is_like(self, name: str, other: Expr) -> Expr:
        """Return whether what stands under a name is of another value's type."""
        kinds = [self.call("type", one) for one in (self.ident(name), other)]
        return self.call("_==_", *kinds)

    def error(self, text: str) -> Expr:
        """Return what is an error that says this: it isn't there."""
        return self.call("_[_]", self.make(struct_expr=CreateStruct()), self.text(text))

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


def operands(node: Expr) -> list[Expr]:
    """Return what a call is of: its target first, if it has one."""
    call = node.call_expr
    return [*([call.target] if call.HasField("target") else ()), *call.args]


def is_written(node: Expr) -> bool:
    """Say whether a node stands in the expression as a text, number or list."""
    return node.WhichOneof("expr_kind") in {"const_expr", "list_expr"}


def _nodes(node: Expr) -> Iterator[Expr]:
    """Yield a node and all that stand in it."""
    yield node
    for one in inside(node):
        yield from _nodes(one)


def inside(node: Expr) -> list[Expr]:
    """Return the nodes that stand in a node."""
    kind = node.WhichOneof("expr_kind")
    if kind == "select_expr":
        return [node.select_expr.operand]
    if kind == "call_expr":
        return operands(node)
    if kind == "list_expr":
        return list(node.list_expr.elements)
    if kind == "struct_expr":
        entries = node.struct_expr.entries
        return [entry.map_key for entry in entries] + [entry.value for entry in entries]
    if kind == "comprehension_expr":
        of = node.comprehension_expr
        return [of.iter_range, of.accu_init, of.loop_condition, of.loop_step, of.result]
    return []


def repeated(loop: Comprehension) -> Iterator[Expr]:
    """Yield the nodes that are evaluated for each element of what is gone through."""
    for part in (loop.loop_condition, loop.loop_step):
        yield from _nodes(part)


def _repeated(nodes: list[Expr]) -> set[int]:
    loops = [node.comprehension_expr for node in nodes if node.HasField("comprehension_expr")]
    return {node.id for loop in loops for node in repeated(loop)}
