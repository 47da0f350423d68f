"""What a call looks through, in letters: as an expression, which the runtime evaluates itself.

The runtime keeps whatever it calls a Python function with, for as long as the process lives. So no
value leaves it here: its own functions measure, and `metered` pays what they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.expressions.messages.checked_pb2 import Call, CreateList, CreateStruct, Expr

if TYPE_CHECKING:
    from extproc.expressions.rewriting import Maker

_WRITTEN = 8  # letters for one of a list that is written as text: to write it takes that long
_APPENDED = 6  # for each element of the list, as the runtime copies it; not what they hold
_PIECE = 32  # for a piece of a text, which is kept until the evaluation's end
# Where both are unknown, a place of one is compared with as much of the other as agrees.
_TOGETHER = 64  # letters that are compared in the time in which one is looked at
_COMPILED = 1 << 13  # letters of the budget for one of a pattern: it may be a class like `\\pL`
_REPEATED = 1 << 21  # for a pattern of which a part stands for as many as a thousand
_REPEATS = "\\\\{[0-9]"


class Costs:
    """Makes costs; each is of values that stand under names, and none is an error.

    Args:
        make: makes nodes.
    """

    def __init__(self, make: Maker) -> None:
        self._make = make

    def text(self, name: str) -> Expr:
        """Return what a text costs; anything else nothing, as the call itself refuses it."""
        return self._if(self._is_text(name), self._size(name))

    def anything(self, name: str) -> Expr:
        """Return what a value costs whatever it is: a list or map by all that is in it."""
        return self._if(self._is_text(name), self._size(name), self.holding(name))

    def holding(self, name: str) -> Expr:
        """Return what a list or map costs; anything else nothing."""
        make = self._make
        one = make.make(list_expr=CreateList(elements=[make.ident(name)]))
        shown = Call(target=make.text("%s"), function="format", args=[one])
        size = make.call("size", make.make(call_expr=shown))
        return self._if(self._holds(name), self._times(size, _WRITTEN))

    def sought_in(self, one: str, many: str) -> Expr:
        """Return what it costs to compare a list or map with each element of another one."""
        return self._if(self._holds(one), self.holding(many))

    def appended(self, name: str) -> Expr:
        """Return what a copy of a list costs that is gathered."""
        return self._times(self._size(name), _APPENDED)

    def sought(self, text: str, needle: str) -> Expr:
        """Return what it costs to seek one text in another."""
        call, size = self._make.call, self._size
        together = call("_/_", call("_*_", size(text), size(needle)), self._number(_TOGETHER))
        return self._if_texts(text, needle, call("_+_", size(text), together))

    def pieces(self, text: str, by: str) -> Expr:
        """Return what it costs to cut a text into its pieces."""
        make, call, size = self._make, self._make.call, self._size
        rest = Call(
            target=make.ident(text), function="replace", args=[make.ident(by), make.text("")]
        )
        left = call("size", make.make(call_expr=rest))
        cuts = call("_/_", call("_-_", size(text), left), size(by))
        no_letters = call("_==_", size(by), self._number(0))
        many = self._if(no_letters, size(text), call("_+_", cuts, self._number(1)))
        return self._if_texts(text, by, call("_+_", size(text), self._times(many, _PIECE)))

    def pattern(self, name: str) -> Expr:
        """Return what it costs to compile a pattern."""
        call = self._make.call
        repeats = call("matches", self._make.ident(name), self._make.text(_REPEATS))
        compiled = self._times(self._size(name), _COMPILED)
        more = self._if(repeats, self._number(_REPEATED))
        return self._if(self._is_text(name), call("_+_", compiled, more))

    def _if_texts(self, one: str, other: str, cost: Expr) -> Expr:
        both = self._make.call("_&&_", self._is_text(one), self._is_text(other))
        return self._if(both, cost)

    def _if(self, condition: Expr, cost: Expr, other: Expr | None = None) -> Expr:
        nothing = self._number(0) if other is None else other
        return self._make.call("_?_:_", condition, cost, nothing)

    def _size(self, name: str) -> Expr:
        return self._make.call("size", self._make.ident(name))

    def _times(self, one: Expr, by: int) -> Expr:
        return self._make.call("_*_", one, self._number(by))

    def _number(self, value: int) -> Expr:
        return self._make.constant(value)

    def _is_text(self, name: str) -> Expr:
        return self._make.is_like(name, self._make.text(""))

    def _holds(self, name: str) -> Expr:
        make = self._make
        a_list, a_map = make.make(list_expr=CreateList()), make.make(struct_expr=CreateStruct())
        return make.call("_||_", make.is_like(name, a_list), make.is_like(name, a_map))
