"""JMESPath's syntax tree as Python functions, made once; the tree is the `jmespath` library's.

The library walks the tree for each value, which is most of what a composed answer costs. Here each
node is a closure over its children's. What they give is what the library gives, held by a
property test. Steps are counted, so that an expression over hostile data ends.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from jmespath import visitor

from extproc.core.near import near
from extproc.expressions.functions import FUNCTIONS, TABLE

Shape = Callable[[Any, "Shaping"], Any]
Node = Mapping[str, Any]

MOST_STEPS = 1_000_000
"""What one evaluation may take: nodes of the expression for each value that they are evaluated for.

A step is 40 to 250 ns, so other exchanges of the worker wait a quarter of a second at worst.
"""
_CALL = 20  # steps of a call of a function
_LOOKUP = 5
_LETTERS = 8  # of a text that a function makes, for a step

# What goes through a map's members; others take or leave it as a whole.
_OF_MEMBERS = frozenset({"merge", "keys", "values"})


_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "gt": operator.gt,
    "lte": operator.le,
    "gte": operator.ge,
}


class TooMuchWork(Exception):
    """The expression takes more steps than it may."""


class NotFinite(ValueError):
    """A function gave a number that JSON doesn't have."""


class Unknown(ValueError):
    """The expression can't be evaluated, whatever the value.

    Attributes:
        name: the function that is called.
        expected: what would be right.
    """

    def __init__(self, name: str, problem: str, expected: str) -> None:
        super().__init__(f"calls {name}{problem}")
        self.name = name
        self.expected = expected


class Shaping:
    """One evaluation.

    Attributes:
        left: how many more steps it may take.
        looked_up: how many items `lookup` gave; these are all that can stand in a value twice.
    """

    __slots__ = ("_index", "left", "looked_up")

    def __init__(self, index: Callable[[str], Mapping[str, Any]] | None = None) -> None:
        self._index = index
        self.left = MOST_STEPS
        self.looked_up = 0

    def spend(self, steps: int) -> None:
        """Take note of steps, before they are taken.

        Raises:
            TooMuchWork: there were too many.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork

    def lookup(self, part: str, key: str) -> Any:
        """Return the item of a part that has a key."""
        self.looked_up += 1
        return None if self._index is None else self._index(part).get(key)

    def spend_on(self, value: Any) -> None:
        """Take note of all that a value holds.

        Raises:
            TooMuchWork: there was too much.
        """
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                value = value.values()
            elif not isinstance(value, list):
                continue
            self.spend(len(value))
            waiting.extend(value)


class _Interpreter:
    """What the library's functions call for an expression they were given (`&field`)."""

    def __init__(self, shaping: Shaping, work: int) -> None:
        self._shaping = shaping
        self._work = work

    def visit(self, shape: Shape, value: Any) -> Any:
        self._shaping.spend(self._work)
        return shape(value, self._shaping)


def shape_of(node: Node, key_text: Callable[[Any], str]) -> Shape:
    """Make a function of a syntax tree.

    Args:
        node: the library's.
        key_text: the text by which `lookup` compares keys.

    Raises:
        Unknown: it calls a function that doesn't exist, or `lookup` in another way.
    """
    return _Maker(key_text).of(node)


# Kinds of nodes that mean the same as another.
_ALIKE = {
    "current": "identity",
    "index_expression": "subexpression",
    "pipe": "subexpression",
}


class _Maker:
    def __init__(self, key_text: Callable[[Any], str]) -> None:
        self._key_text = key_text

    def of(self, node: Node) -> Shape:
        kind = node["type"]
        make: Callable[[Node], Shape] = getattr(self, f"_{_ALIKE.get(kind, kind)}")
        return make(node)

    def _all(self, node: Node) -> list[Shape]:
        return [self.of(child) for child in node["children"]]

    # ---- from the value itself

    def _identity(self, _node: Node) -> Shape:
        return lambda value, _run: value

    def _field(self, node: Node) -> Shape:
        name = node["value"]
        return lambda value, _run: value.get(name) if isinstance(value, dict) else None

    def _literal(self, node: Node) -> Shape:
        literal = node["value"]
        return lambda _value, _run: literal

    def _index(self, node: Node) -> Shape:
        place = node["value"]

        def shape(value: Any, _run: Shaping) -> Any:
            if not isinstance(value, list) or not -len(value) <= place < len(value):
                return None
            return value[place]

        return shape

    def _slice(self, node: Node) -> Shape:
        cut = slice(*node["children"])
        return lambda value, _run: value[cut] if isinstance(value, list) else None

    # ---- one after the other

    def _subexpression(self, node: Node) -> Shape:
        shapes = self._all(node)
        if len(shapes) == 2:  # noqa: PLR2004 - nearly always
            first, second = shapes
            return lambda value, run: second(first(value, run), run)

        def shape(value: Any, run: Shaping) -> Any:
            for step in shapes:
                value = step(value, run)
            return value

        return shape

    # ---- for each element

    def _projection(self, node: Node) -> Shape:
        base, each = self._all(node)
        if node["children"][1]["type"] == "field":
            return _projected(base, node["children"][1]["value"])
        work = _work(node["children"][1])

        def shape(value: Any, run: Shaping) -> Any:
            elements = base(value, run)
            if not isinstance(elements, list):
                return None
            run.spend(len(elements) * work)
            return [item for e in elements if (item := each(e, run)) is not None]

        return shape

    def _value_projection(self, node: Node) -> Shape:
        base, each = self._all(node)
        work = _work(node["children"][1])

        def shape(value: Any, run: Shaping) -> Any:
            elements = base(value, run)
            if not isinstance(elements, dict):
                return None
            run.spend(len(elements) * work)
            return [item for e in elements.values() if (item := each(e, run)) is not None]

        return shape

    def _filter_projection(self, node: Node) -> Shape:
        base, each, condition = self._all(node)
        work = _work(node["children"][1]) + _work(node["children"][2])

        def shape(value: Any, run: Shaping) -> Any:
            elements = base(value, run)
            if not isinstance(elements, list):
                return None
            run.spend(len(elements) * work)
            return [
                item
                for e in elements
                if not _is_false(condition(e, run)) and (item := each(e, run)) is not None
            ]

        return shape

    def _flatten(self, node: Node) -> Shape:
        (base,) = self._all(node)

        def shape(value: Any, run: Shaping) -> Any:
            elements = base(value, run)
            if not isinstance(elements, list):
                return None
            run.spend(len(elements))
            if list not in map(type, elements):
                return elements  # nothing is flattened
            merged: list[Any] = []
            for element in elements:
                if isinstance(element, list):
                    run.spend(len(element))
                    merged.extend(element)
                else:
                    merged.append(element)
            return merged

        return shape

    # ---- new values

    def _multi_select_dict(self, node: Node) -> Shape:
        inside = [(child["value"], child["children"][0]) for child in node["children"]]
        if all(one["type"] == "field" for _, one in inside):
            return _selected(tuple([(name, one["value"]) for name, one in inside]))
        pairs = [(name, self.of(one)) for name, one in inside]

        def shape(value: Any, run: Shaping) -> Any:
            if value is None:
                return None
            return {name: each(value, run) for name, each in pairs}

        return shape

    def _multi_select_list(self, node: Node) -> Shape:
        shapes = self._all(node)

        def shape(value: Any, run: Shaping) -> Any:
            return None if value is None else [each(value, run) for each in shapes]

        return shape

    # ---- logic

    def _or_expression(self, node: Node) -> Shape:
        one, other = self._all(node)

        def shape(value: Any, run: Shaping) -> Any:
            found = one(value, run)
            return other(value, run) if _is_false(found) else found

        return shape

    def _and_expression(self, node: Node) -> Shape:
        one, other = self._all(node)

        def shape(value: Any, run: Shaping) -> Any:
            found = one(value, run)
            return found if _is_false(found) else other(value, run)

        return shape

    def _not_expression(self, node: Node) -> Shape:
        (one,) = self._all(node)

        def shape(value: Any, run: Shaping) -> Any:
            found = one(value, run)
            # Of numbers none is false in JMESPath, and 0 is to Python.
            return False if visitor._is_actual_number(found) else not found  # noqa: SLF001 - its law

        return shape

    def _comparator(self, node: Node) -> Shape:
        one, other = self._all(node)
        kind = node["value"]
        if kind in {"eq", "ne"}:
            wanted = kind == "eq"

            def equals(value: Any, run: Shaping) -> Any:
                left, right = one(value, run), other(value, run)
                if isinstance(left, list | dict) and isinstance(right, list | dict):
                    run.spend_on(left)
                return bool(_equal(left, right)) is wanted

            return equals
        compare = _ORDER[kind]

        def shape(value: Any, run: Shaping) -> Any:
            left, right = one(value, run), other(value, run)
            if not (_is_comparable(left) and _is_comparable(right)):
                return None
            return compare(left, right)

        return shape

    # ---- functions

    def _expref(self, node: Node) -> Shape:
        (shape,) = self._all(node)
        work = _work(node["children"][0])
        return lambda _value, run: visitor._Expression(shape, _Interpreter(run, work))  # noqa: SLF001 - as above

    def _function_expression(self, node: Node) -> Shape:
        name = node["value"]
        if name == "lookup":
            return self._lookup(node)
        if name not in TABLE:
            expected = near(name, TABLE, "expected a function of JMESPath")
            raise Unknown(name, ", which is no function", expected)
        arguments = self._all(node)
        call = FUNCTIONS.call_function

        def shape(value: Any, run: Shaping) -> Any:
            given = [argument(value, run) for argument in arguments]
            _spend_on_arguments(name, given, run)
            made = call(name, given)
            if isinstance(made, str):
                run.spend(len(made) // _LETTERS)
            elif isinstance(made, int | float) and not math.isfinite(made):
                raise NotFinite(name)
            return made

        return shape

    def _lookup(self, node: Node) -> Shape:
        children = node["children"]
        if len(children) != 2:  # noqa: PLR2004 - part and key
            expected = "expected lookup('part', key)"
            raise Unknown("lookup", " with another number of arguments", expected)
        part, key, text = children[0].get("value"), self.of(children[1]), self._key_text

        def shape(value: Any, run: Shaping) -> Any:
            found = key(value, run)
            return run.lookup(part, found if isinstance(found, str) else text(found))

        return shape


_GOES_THROUGH = frozenset({"projection", "value_projection", "filter_projection", "flatten"})


def _work(node: Node) -> int:
    """Return how many steps a node takes for one value, without what it does for each element."""
    kind, children = node["type"], node["children"]
    if kind in _GOES_THROUGH:
        return 1 + _work(children[0])
    if kind == "expref":
        return 1
    own = 1
    if kind == "function_expression":
        own = _LOOKUP if node["value"] == "lookup" else _CALL
    return own + sum(_work(child) for child in children if isinstance(child, dict))


def _projected(base: Shape, name: str) -> Shape:
    """Return `base[].name`, without a call for each element."""

    def shape(value: Any, run: Shaping) -> Any:
        elements = base(value, run)
        if not isinstance(elements, list):
            return None
        run.spend(len(elements))
        return [item for e in elements if isinstance(e, dict) and (item := e.get(name)) is not None]

    return shape


def _selected(fields: tuple[tuple[str, str], ...]) -> Shape:
    """Return `{name: field, …}`, without a call for each field."""

    def shape(value: Any, _run: Shaping) -> Any:
        if isinstance(value, dict):
            get = value.get
            return {name: get(field) for name, field in fields}
        return None if value is None else {name: None for name, _ in fields}

    return shape


def _spend_on_arguments(name: str, given: list[Any], run: Shaping) -> None:
    """Take note of what a function goes through.

    Raises:
        TooMuchWork: there is too much of it.
    """
    if name == "to_string":
        run.spend_on(given)
        return
    for argument in given:
        if isinstance(argument, list) or (name in _OF_MEMBERS and isinstance(argument, dict)):
            run.spend(len(argument))
        elif isinstance(argument, str):
            run.spend(len(argument) // _LETTERS)
    if name == "join":
        run.spend(_joined_letters(*given) // _LETTERS)
    elif name == "split" and [type(one) for one in given] == [str, str]:
        run.spend(given[0].count(given[1]))
    elif name == "contains" and isinstance(given[-1], list | dict):
        run.spend_on(given[0])


def _joined_letters(*given: Any) -> int:
    """Return how long the text will be that `join` makes; 0 for arguments that it refuses."""
    if len(given) != 2 or not isinstance(given[0], str) or not isinstance(given[1], list):  # noqa: PLR2004 - its arguments
        return 0
    glue, texts = given
    return len(glue) * len(texts) + sum(len(text) for text in texts if isinstance(text, str))


def _is_false(value: Any) -> bool:
    return value is None or value is False or (not value and isinstance(value, str | list | dict))


def _equal(left: Any, right: Any) -> Any:
    return visitor._equals(left, right)  # noqa: SLF001 - 0 and false, 1 and true differ


def _is_comparable(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
