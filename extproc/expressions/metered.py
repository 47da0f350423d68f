"""A budget for what an expression looks through: texts again and again, texts in other texts.

To evaluate one step of a loop is cheap, but a step may look through a text of a client's that has
half a million letters, and ten thousand steps do: a minute in which nothing can interrupt the
runtime. So what such a call looks through is paid for before it is made, in letters. Once the
budget is spent, each further call is an error, loops end at their next step, and the expression has
no value: in a policy that denies.

Paid for is what a loop does to values that aren't written out, and what seeks one unknown text in
another, or by an unknown pattern, wherever it stands. What it costs the runtime works out itself,
see `costs`; to pay it calls functions here, by names that no expression can write.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cel_expr_python import cel

from extproc.expressions.costs import Costs
from extproc.expressions.messages.checked_pb2 import Expr
from extproc.expressions.rewriting import operands, repeated

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.expressions.messages.checked_pb2 import Comprehension
    from extproc.expressions.rewriting import Maker, Tree

T = TypeVar("T")

BUDGET = 1 << 24
"""Letters that one evaluation may look through: a tenth of a second for the slowest functions."""
TOO_MUCH = "it looks through too much text"

_SEEKING = frozenset({"contains", "indexOf", "lastIndexOf"})
_THROUGH = frozenset(
    {
        *("charAt", "lowerAscii", "matches", "replace", "reverse", "strings.quote"),
        *("substring", "trim", "upperAscii"),
        *_SEEKING,
    }
)
_SIZE = "size"
# A number of half a million digits is read to its end, whatever comes of it.
_READING = frozenset({"double", "duration", "int", "timestamp", "uint"})
_OF_TEXT = _THROUGH | _READING | {_SIZE}  # the size of a list or map is known
_OF_ANY = frozenset({"bytes", "join", "string"})
_BOTH, _FORMAT, _IN, _MATCHES, _SPLIT = "_+_", "format", "@in", "matches", "split"
_COMPARING = frozenset({"_==_", "_!=_", _IN})  # texts are compared in no time
_GOING = "@going"
# What is paid is one of few sums: a function that takes a number would keep each.
_UP_TO = tuple(4**power for power in range(2, 13))
_MOST = len(_UP_TO)


class _Meter(threading.local):
    left = 0


_meter = _Meter()


class OverBudget(Exception):
    """An expression would look through more than it may."""


class Allowance:
    """What several evaluations may look through together.

    Attributes:
        left: letters.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 4 * BUDGET


def paid(evaluate: Callable[[], T], allowance: Allowance | None = None) -> T:
    """Evaluate an expression with a budget.

    Args:
        evaluate: does it.
        allowance: what it shares with others; None for its own budget alone.

    Raises:
        OverBudget: it wasn't enough; whatever was evaluated means nothing.
    """
    budget = BUDGET if allowance is None else min(BUDGET, max(allowance.left, 0))
    _meter.left = budget
    result = evaluate()
    if allowance is not None:
        allowance.left -= budget - _meter.left
    if _meter.left < 0:
        raise OverBudget(TOO_MUCH)
    return result


def _pay(letters: int) -> bool:
    left = _meter.left = _meter.left - letters
    return left >= 0


def _going() -> bool:
    return _meter.left >= 0


def functions() -> list[Any]:
    """Return the functions that metered expressions call, for a `cel.Env`."""
    sums = [most // 2 for most in _UP_TO] + [BUDGET + 1]
    made = [_function(_paying(number), partial(_pay, one)) for number, one in enumerate(sums)]
    return [*made, _function(_GOING, _going)]


def _function(name: str, called: Callable[[], bool]) -> Any:
    overload = cel.Overload(name, cel.Type.BOOL, [], False, called)  # noqa: FBT003 - it has no names
    return cel.FunctionDecl(name, [overload])


def _paying(number: int) -> str:
    return f"@pay{number}"


def meter(tree: Tree) -> bool:
    """Have everything in an expression paid for that may look through much.

    Returns:
        Whether there is anything.
    """
    metered = {node.id for node in tree.nodes if node.HasField("call_expr") and _meters(tree, node)}
    for node in tree.nodes:
        loop = node.comprehension_expr
        if not metered.isdisjoint(inside.id for inside in repeated(loop)):
            tree.loop(node, partial(_while_going, tree.make))
    return bool(metered)


def _while_going(make: Maker, loop: Comprehension) -> None:
    """End a loop whose budget is spent."""
    before = Expr()
    before.CopyFrom(loop.loop_condition)
    loop.loop_condition.CopyFrom(make.call("_&&_", make.call(_GOING), before))


def _meters(tree: Tree, node: Expr) -> bool:
    """Have a call paid for; return whether it has to be."""
    paying = _paid_by(node, Costs(tree.make), looped=node.id in tree.again)
    for number, (cost, those) in enumerate(paying):
        held = {f"@paid{node.id}.{number}.{place}": one for place, one in enumerate(those)}
        fits = _paid(tree.make, f"@cost{node.id}.{number}", cost(*held))
        tree.guard(node, held, fits, TOO_MUCH)
    return bool(paying)


def _paid(make: Maker, name: str, cost: Expr) -> Expr:
    """Make what pays a cost, about: `cost <= 0 || (cost <= 16 ? @pay0() : …)`."""

    def at_most(letters: int) -> Expr:
        return make.call("_<=_", make.ident(name), make.constant(letters))

    paid = make.call(_paying(_MOST))
    for number, most in reversed(tuple(enumerate(_UP_TO))):
        paid = make.call("_?_:_", at_most(most), make.call(_paying(number)), paid)
    return make.named(name, cost, make.call("_||_", at_most(0), paid))


_Paying = tuple["Callable[..., Expr]", "list[Expr]"]


def _paid_by(node: Expr, costs: Costs, *, looped: bool) -> list[_Paying]:
    """Return what a call costs, each cost with the operands that it depends on."""
    function, of = node.call_expr.function, operands(node)
    if all(map(_is_plain, of)):
        return []
    paying: list[_Paying] = []
    by_unknown = len(of) > 1 and not _is_plain(of[1])
    if function == _MATCHES and by_unknown:
        paying.append((costs.pattern, of[1:2]))
    few = all(map(_is_plain, of[2:3])) and len(of) > 2  # noqa: PLR2004 - pieces at most
    if function == _SPLIT and (looped or not few) and not _is_plain(of[0]):
        paying.append((costs.pieces, of[:2]))
    elif function in _SEEKING and by_unknown:
        paying.append((costs.sought, of[:2]))
    elif looped:
        paying += _paid_each_time(node, costs)
    return paying


def _paid_each_time(node: Expr, costs: Costs) -> list[_Paying]:
    """Return what a call costs in a loop."""
    function, of = node.call_expr.function, operands(node)
    unknown = [one for one in of if not _is_plain(one)]
    if function in _OF_TEXT | _OF_ANY and not _is_plain(of[0]):
        return [(costs.text if function in _OF_TEXT else costs.anything, of[:1])]
    if function == _FORMAT:
        return [(costs.anything, of[1:2])]
    if function == _BOTH:
        if _gathers(node):
            return [(costs.appended, of[:1])]
        return [(costs.anything, [one]) for one in unknown]
    if function in _COMPARING and unknown == of:
        return [(costs.sought_in, of) if function == _IN else (costs.holding, of[:1])]
    return []


def _gathers(node: Expr) -> bool:
    """Say whether a call is how `map` and `filter` append an element: no source can write it."""
    first, second = node.call_expr.args
    return first.ident_expr.name.startswith("@") and second.HasField("list_expr")


def _is_plain(node: Expr) -> bool:
    """Say whether a node is a text or number that is written out, or a list of such."""
    if node.WhichOneof("expr_kind") == "list_expr":
        return all(one.WhichOneof("expr_kind") == "const_expr" for one in node.list_expr.elements)
    return bool(node.WhichOneof("expr_kind") == "const_expr")
