"""A budget for what an expression looks through: texts again and again, texts in other texts.

To evaluate one step of a loop is cheap, but a step may look through a text of a client's that has
half a million letters, and ten thousand steps do: a minute in which nothing can interrupt the
runtime. So what such a call looks through is paid for before it is made, in letters. Once the
budget is spent, each further call is an error, loops end at their next step, and the expression has
no value: in a policy that denies.

Paid for is what a loop does to values that aren't written out, and what seeks one unknown text in
another, or by an unknown pattern, wherever it stands. The runtime calls the functions here, by
names that no expression can write.
"""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cel_expr_python import cel

from extproc.expressions.messages.checked_pb2 import CreateList, CreateStruct, Expr
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
_OF_ANY = frozenset({"bytes", "join", _SIZE, "string"}) | _READING
_BOTH = "_+_"
_IN = "@in"
_COMPARING = frozenset({"_==_", "_!=_", _IN})
_FORMAT = "format"
_MATCHES = "matches"
_BY, _FOR = f"{_MATCHES} by", " for"
_SPLIT = "split"
_GATHERED = "gathered"
_GOING = "@going"
_ELEMENT = 32  # letters; what a number in a list costs, for one, and a piece of a text
_APPENDED = 8  # for each element of the list, as the runtime copies it; not what they hold
# Where both are unknown, a place of one is compared with as much of the other as agrees.
_TOGETHER = 64  # letters that are compared in the time in which one is looked at
_COMPILED = 1 << 13  # letters of the budget for one of a pattern: it may be a class like `\pL`
_REPEATED = 1 << 21  # for a pattern of which a part stands for as many as a thousand
_REPEATS = re.compile(r"\{\d")


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


def _through(value: Any) -> bool:
    """Pay for looking through a value."""
    return _pay(_weight(value))


def _sought(text: str, needle: str) -> bool:
    """Pay for seeking one text in another."""
    return _pay(len(text) + len(text) * len(needle) // _TOGETHER)


def _sought_in(_one: object, many: Any) -> bool:
    """Pay for comparing a list or map with each element of another one."""
    return _pay(_weight(many))


def _split(text: str, by: str) -> bool:
    """Pay for the pieces of a text, each of which is kept until the evaluation's end."""
    return _pay(len(text) + _ELEMENT * (text.count(by) + 1))


def _appended(elements: int) -> bool:
    """Pay for a copy of a list that is gathered."""
    return _pay(elements * _APPENDED)


def _tried(pattern: str) -> bool:
    """Pay for compiling a pattern."""
    return _pay(len(pattern) * _COMPILED + (_REPEATED if _REPEATS.search(pattern) else 0))


def _weight(value: Any) -> int:
    weight, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | bytearray):
            weight += len(one)
        elif isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        weight += _ELEMENT
    return weight


def functions() -> list[Any]:
    """Return the functions that metered expressions call, for a `cel.Env`.

    Each is named after what it pays for, so that an error of the runtime's tells of that.
    """
    kinds = cel.Type
    text, holding = [kinds.STRING], (kinds.LIST, kinds.MAP)
    any_kind = [[kind] for kind in (*_flat_kinds(), *holding)]
    made = [_function(name, _through, [text]) for name in _THROUGH]
    of_any = (*_OF_ANY, *_COMPARING - {_IN}, _BOTH, _FORMAT)
    made += [_function(name, _through, any_kind) for name in of_any]
    made += [_function(f"{name}{_FOR}", _sought, [text * 2]) for name in _SEEKING]
    made.append(_function(_IN, _sought_in, [[one, many] for one in holding for many in holding]))
    made.append(_function(_BY, _tried, [text]))
    made.append(_function(_SPLIT, _split, [text * 2]))
    made.append(_function(_GATHERED, _appended, [[kinds.INT]]))
    going = cel.Overload(_GOING, kinds.BOOL, [], False, _going)  # noqa: FBT003 - it has no names
    return [*made, cel.FunctionDecl(_GOING, [going])]


def _flat_kinds() -> tuple[Any, ...]:
    """Return the kinds of values that hold no others."""
    kinds = cel.Type
    texts, times = (kinds.STRING, kinds.BYTES), (kinds.TIMESTAMP, kinds.DURATION)
    return (*texts, kinds.INT, kinds.UINT, kinds.DOUBLE, kinds.BOOL, kinds.NULL, *times, kinds.TYPE)


def _function(name: str, paying: Callable[..., bool], parameters: list[list[Any]]) -> Any:
    overloads = [
        cel.Overload(f"@{name} {number}", cel.Type.BOOL, kinds, False, paying)  # noqa: FBT003 - as above
        for number, kinds in enumerate(parameters)
    ]
    return cel.FunctionDecl(_paying(name), overloads)


def _paying(function: str) -> str:
    return f"@{function}"


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
    paying = _paid_by(node, looped=node.id in tree.again)
    for number, (name, those) in enumerate(paying):
        held = {f"@paid{node.id}.{number}.{place}": one for place, one in enumerate(those)}
        of = list(map(tree.make.ident, held))
        if name == _GATHERED:
            of = [tree.make.call(_SIZE, *of)]
        fits = tree.make.call(_paying(name), *of)
        free = _free(name, tree.make, next(iter(held)))
        if free is not None:
            fits = tree.make.call("_||_", free, fits)
        tree.guard(node, held, fits, TOO_MUCH)
    return bool(paying)


def _paid_by(node: Expr, *, looped: bool) -> list[tuple[str, list[Expr]]]:
    """Return what is called to pay for a call, each with the operands that it needs for that."""
    function, of = node.call_expr.function, operands(node)
    unknown = [one for one in of if not _is_plain(one)]
    if not unknown:
        return []
    by_unknown = len(of) > 1 and not _is_plain(of[1])
    paying = []
    if function == _MATCHES and by_unknown:
        paying.append((_BY, of[1:2]))
    few = all(map(_is_plain, of[2:3])) and len(of) > 2  # noqa: PLR2004 - pieces at most
    if function == _SPLIT and (looped or not few) and not _is_plain(of[0]):
        paying.append((_SPLIT, of[:2]))
    elif function in _SEEKING and by_unknown:
        paying.append((f"{function}{_FOR}", of[:2]))
    elif looped and function in _THROUGH | _OF_ANY and not _is_plain(of[0]):
        paying.append((function, of[:1]))
    elif looped and function == _FORMAT:
        paying.append((function, of[1:2]))
    elif looped and function == _BOTH and _gathers(node):
        paying.append((_GATHERED, of[:1]))
    elif looped and function == _BOTH:
        paying += [(function, [one]) for one in unknown]
    elif looped and function in _COMPARING and unknown == of:
        paying.append((function, of if function == _IN else of[:1]))
    return paying


def _gathers(node: Expr) -> bool:
    """Say whether a call is how `map` and `filter` append an element: no source can write it."""
    first, second = node.call_expr.args
    return first.ident_expr.name.startswith("@") and second.HasField("list_expr")


def _free(function: str, make: Maker, name: str) -> Expr | None:
    """Return when nothing has to be paid; to take a value over for that costs more than the call.

    The size of a list or map is known, and texts are compared in no time.
    """
    if function not in _COMPARING and function != _SIZE:
        return None
    plain = [make.make(list_expr=CreateList()), make.make(struct_expr=CreateStruct())]
    kind = [
        make.call("_==_", make.call("type", make.ident(name)), make.call("type", one))
        for one in plain
    ]
    holds = make.call("_||_", *kind)
    return holds if function == _SIZE else make.call("!_", holds)


def _is_plain(node: Expr) -> bool:
    """Say whether a node is a text or number that is written out, or a list of such."""
    if node.WhichOneof("expr_kind") == "list_expr":
        return all(one.WhichOneof("expr_kind") == "const_expr" for one in node.list_expr.elements)
    return bool(node.WhichOneof("expr_kind") == "const_expr")
