"""What an expression reads, told from its tree: names, and the keys of maps that it writes out.

The tree is what the runtime evaluates: no comment, no literal and no name of a loop's is taken
there for what it isn't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from extproc.expressions.rewriting import inside, operands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.expressions.messages.checked_pb2 import Expr
    from extproc.expressions.rewriting import Tree

_INDEX, _IN, _MATCHES = "_[_]", "@in", "matches"
_COMPARES = frozenset({"_==_", "_!=_", _IN})
_PLACES = {_INDEX: (0, 1), _IN: (1, 0)}
"""By function, which operand is the map, and which the key."""


class Use(NamedTuple):
    """How a name is used at one place.

    Attributes:
        key: the only one that is read there; None where it may be any.
        asked: it is asked for, not read.
        walked: the names of all keys are gone through.
    """

    key: str | None = None
    asked: bool = False
    walked: bool = False


class Reads:
    """What one expression reads.

    Args:
        tree: its nodes, as they were compiled.

    Attributes:
        patterns: texts that stand as a pattern of `matches`.
        members: names that stand behind a dot, or as text in brackets or before `in`, whatever
            they are members of.
        computes: there are brackets with neither a text nor a number in them.
    """

    def __init__(self, tree: Tree) -> None:
        self._uses: dict[str, list[Use]] = {}
        self._compared: dict[str, set[str]] = {}
        self._sources: dict[str, str] = {}  # of a loop's names: out of what they come
        self.patterns: list[str] = []
        self.members: set[str] = set()
        self.computes = False
        self._visit(tree.nodes[0], Use(), frozenset())
        for node in tree.nodes:
            self._note(node)

    def names(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of the declared names are read."""
        return tuple(name for name in declared if name in self._uses)

    def keys(self, name: str, *, values: bool = False) -> tuple[str, ...] | None:
        """Return which keys of a map are read; None if it may be any.

        Args:
            name: of the map.
            values: what goes through the names of all keys doesn't count.
        """
        uses = [use for use in self._uses.get(name, ()) if not (values and use.walked)]
        keys = [use.key for use in uses if use.key is not None]
        return tuple(dict.fromkeys(keys)) if len(keys) == len(uses) else None

    def compared(self, name: str) -> frozenset[str]:
        """Return the texts that are compared with what a loop goes through.

        Args:
            name: of what it is in; of a map these are the names of its members.
        """
        return frozenset(self._compared.get(name, ()))

    def demanded(self, name: str) -> tuple[str, ...]:
        """Return the keys of a map that are written out, but for those that are asked for."""
        uses = self._uses.get(name, ())
        asked = {use.key for use in uses if use.asked}
        keys = [use.key for use in uses if use.key is not None and use.key not in asked]
        return tuple(dict.fromkeys(keys))

    def _visit(self, node: Expr, use: Use, own: frozenset[str]) -> None:
        """Take note of the names in a node.

        Args:
            node: where to look.
            use: what is done with its value.
            own: names that stand for something of a loop's.
        """
        loop = node.comprehension_expr  # an empty one where the node is something else
        if node.HasField("ident_expr"):
            name = node.ident_expr.name
            if name not in own:  # one with a dot before it never is
                self._uses.setdefault(name.removeprefix("."), []).append(use)
        elif node.HasField("comprehension_expr"):
            self._sources[loop.iter_var] = self._source(loop.iter_range)
            self._visit(loop.iter_range, Use(walked=True), own)
            self._visit(loop.accu_init, Use(), own)
            self._visit(loop.result, Use(), own | {loop.accu_var})
            for part in (loop.loop_condition, loop.loop_step):
                self._visit(part, Use(), own | {loop.accu_var, loop.iter_var})
        else:
            if node.call_expr.function in _COMPARES:
                self._compare(*operands(node))
            for one, how in _used(node):
                self._visit(one, how, own)

    def _source(self, node: Expr) -> str:
        """Return the name out of which a value comes; empty for none."""
        while not node.HasField("ident_expr"):
            if node.HasField("comprehension_expr"):
                node = node.comprehension_expr.iter_range
            elif node.HasField("select_expr") or node.call_expr.function == _INDEX:
                node = inside(node)[0]
            else:
                return ""
        name = node.ident_expr.name.removeprefix(".")
        return self._sources.get(name, name)

    def _compare(self, one: Expr, other: Expr) -> None:
        """Take note of texts with which what a loop goes through is compared."""
        for looped, written in ((one, other), (other, one)):
            source = self._sources.get(looped.ident_expr.name)
            if source:
                found = map(_text, (written, *written.list_expr.elements))
                self._compared.setdefault(source, set()).update(filter(None, found))

    def _note(self, node: Expr) -> None:
        if node.HasField("select_expr"):
            self.members.add(node.select_expr.field)
        function, of = node.call_expr.function, operands(node)
        if function in _PLACES:
            key = of[_PLACES[function][1]]
            text = _text(key)
            if text is not None:
                self.members.add(text)
            elif function == _INDEX and not key.HasField("const_expr"):
                self.computes = True
        elif function == _MATCHES and (pattern := _text(of[1])) is not None:
            self.patterns.append(pattern)


def _used(node: Expr) -> Iterator[tuple[Expr, Use]]:
    """Yield what stands in a node, each with what the node does with it."""
    if node.HasField("select_expr"):
        select = node.select_expr
        yield select.operand, Use(select.field, asked=select.test_only)
        return
    function = node.call_expr.function
    for place, one in enumerate(inside(node)):
        if function in _PLACES and place == _PLACES[function][0]:
            key = _text(inside(node)[_PLACES[function][1]])
            yield one, Use(key, asked=function == _IN)
        else:
            yield one, Use()


def _text(node: Expr) -> str | None:
    """Return the text that is written out as a node; None where it is something else."""
    constant = node.const_expr
    return constant.string_value if constant.HasField("string_value") else None
