"""Bodies: JMESPath over JSON, with `lookup('PART', KEY)`; strict JSON in, compact JSON out."""

from __future__ import annotations

import json
import re
import warnings
from codecs import BOM_UTF8
from itertools import count
from typing import TYPE_CHECKING, Any

import jmespath
import orjson
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, LexerError, ParseError

from extproc.core.strict_json import may_hold_large_integer
from extproc.expressions.conditions import NotAnExpression
from extproc.expressions.shaping import Shaping, TooMuchWork, Unknown, shape_of
from extproc.expressions.templates import number_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping


class NotJson(ValueError):
    """The bytes aren't JSON (RFC 8259), or nest too deep."""


REQUEST, QUERIES = "request", "queries"
"""No part has this name: where keys come from it, it is what a client sent."""
DEEPEST = 200  # levels; `orjson` writes 254, and an answer puts some around what it takes


def parsed(body: bytes) -> Any:
    """Read JSON strictly: UTF-8, no NaN, `DEEPEST` levels, and no number that isn't what it was.

    Raises:
        NotJson: it isn't.
    """
    try:
        if may_hold_large_integer(body):
            return _exactly(body)
        value = orjson.loads(body)
    except ValueError as error:
        raise NotJson(str(error)) from error
    _refuse_deep(body, value)
    return value


def parsed_of_upstream(body: bytes) -> Any:
    """Read JSON as `parsed` does; a byte order mark before it is ignored (RFC 8259 section 8.1).

    What a client sends is judged, and read by an upstream as it is: there it stays refused.

    Raises:
        NotJson: it isn't.
    """
    return parsed(body.removeprefix(BOM_UTF8))


def _exactly(body: bytes) -> Any:
    """Read with integers of any length; `orjson` makes floats of those above 64 bits."""
    # What it refuses stays refused: NaN, infinite numbers. `json` takes the stack for each level.
    _refuse_deep(body, orjson.loads(body))
    return json.loads(body.decode())


def _levels_written() -> int:
    """Return how many levels `orjson` writes; it refuses what has one more."""
    value: list[Any] = []
    for levels in count():
        try:
            orjson.dumps(value)
        except TypeError:
            return levels
        value = [value]
    raise AssertionError  # `count` doesn't end


_AROUND_DEEPEST = range(_levels_written() - DEEPEST)


def _refuse_deep(body: bytes, value: Any) -> None:
    """Refuse what nests too deep.

    Brackets can't tell of it: some may stand in texts. To write a value takes a tenth of reading
    it, and `orjson` stops at its own bound; so many lists are put around that the bound is ours.

    Raises:
        NotJson: it does.
    """
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return
    for _ in _AROUND_DEEPEST:
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise NotJson(f"it has more than {DEEPEST} levels") from error


def written(value: Any) -> bytes:
    """Write compact JSON.

    Raises:
        ShapeFailed: JSON has no such value.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _written_exactly(value)


def _written_exactly(value: Any) -> bytes:
    """Write with integers of any length; `orjson` refuses those above 64 bits."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise ShapeFailed("it is no JSON") from error


_SCALAR = 4  # about what a number, a boolean or null takes
_AROUND = 2  # quotes, or a comma and a colon


def least_size(value: Any) -> int:
    """Return about how many bytes of JSON a value is, and not many more than it is.

    What stands in it more than once is gone through once, so this takes no longer than reading
    what the value was made from; writing it may take for ever.
    """
    sizes: dict[int, int] = {}
    whole, waiting = value, [value]
    while waiting:
        value = waiting[-1]
        if id(value) in sizes:
            waiting.pop()
            continue
        inside = _inside(value)
        if _HOLDING.isdisjoint(map(type, inside)):
            sizes[id(value)] = _flat_size(value)
            continue
        missing = [one for one in inside if type(one) in _HOLDING and id(one) not in sizes]
        if missing:
            waiting += missing
            continue
        sizes[id(value)] = _size_of(value, sizes)
    return sizes[id(whole)]


_HOLDING = frozenset({dict, list})


def _flat_size(value: Any) -> int:
    """Return how much a value takes that holds no list or map."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # of an integer beyond 64 bits
        return _size_of(value, {})


def _size_of(value: Any, sizes: Mapping[int, int]) -> int:
    """Return how much a value takes, of which the lists and maps inside are measured."""
    inside = sum([sizes.get(id(one)) or _scalar_size(one) for one in _inside(value)])
    if isinstance(value, dict):
        return _SCALAR + inside + sum(map(len, value)) + _AROUND * len(value)
    return inside + _scalar_size(value)


def _inside(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _scalar_size(value: Any) -> int:
    return len(value) + _AROUND if isinstance(value, str) else _SCALAR


def key_text(key: Any) -> str:
    """Return the text by which keys compare: a path's, so that 7, 7.0 and "7" are one."""
    if isinstance(key, float):
        return number_text(key)
    return key if isinstance(key, str) else written(key).decode()


_CALLED = r"\b{}\s*\("
_BEFORE_TOKEN = re.compile(r", got:.*", re.DOTALL)  # the token itself is told


class ShapeFailed(Exception):
    """A shape can't be made of this value, for example a function got the wrong type."""


class TooMuch(ShapeFailed):
    """It would take too many steps, or what it makes would be too large."""


class Projection:
    """A compiled JMESPath expression.

    Attributes:
        source: as written.
        lookups: the parts that `lookup` is called with.
        fields: the names that are read from the value itself; `*` where it may be any.
        of_request: the members of `request` that are read; `*` where it may be any.
        parameters: the members of `request.queries` that are read; `*` where it may be any.
    """

    def __init__(self, source: str, tree: Mapping[str, Any] | None = None) -> None:
        """Compile; `tree` is what the source was parsed to, where that is known.

        Raises:
            NotAnExpression: it isn't JMESPath, or `lookup` doesn't name its part literally.
        """
        self.source = source
        self._tree = tree = _parsed(source) if tree is None else tree
        self.lookups = frozenset(_lookups(tree))
        self.fields = frozenset(_first_fields(tree)) | self.lookups
        self.of_request = frozenset(_members(tree, REQUEST))
        self.parameters = frozenset(_parameters(tree))
        try:
            self._shape = shape_of(tree, key_text)
        except Unknown as error:
            called = re.search(_CALLED.format(error.name), source)
            place = called.start() if called else 0
            raise _at(source, place, str(error), error.expected) from error

    def of(
        self,
        value: Any,
        index: Callable[[str], Mapping[str, Any]] | None = None,
        *,
        read: int = 0,
        most: int | None = None,
    ) -> Any:
        """Apply to a value.

        Args:
            value: any JSON.
            index: gives the items of a part by their keys, for `lookup`.
            read: how many bytes the value and the parts were read from.
            most: bytes of JSON that may be made; measured where `lookup` gave so many items that
                it could be more.

        Raises:
            ShapeFailed: a function refused its argument, or gave an infinite number or none.
            TooMuch: of steps, or of what it makes.
        """
        run = Shaping(index)
        try:
            made = self._shape(value, run)
        except TooMuchWork as spent:
            raise TooMuch(self.source) from spent
        except (JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise ShapeFailed(self.source) from error
        if most is not None and run.looked_up * read > most and least_size(made) > most:
            raise TooMuch(self.source)
        return made

    def pruned(self, wanted: Wanted) -> Projection:
        """Return the same without the members that nobody asked for.

        Args:
            wanted: names, each with what is wanted of its value; nothing there for all of it.
        """
        return Projection(self.source, _pruned(self._tree, wanted))


def _parsed(source: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            # The lexer takes `text` that isn't JSON for a string, with a warning: JMESPath's
            # grammar has no such literal any more.
            warnings.simplefilter("error", PendingDeprecationWarning)
            tree: Mapping[str, Any] = jmespath.compile(source).parsed
            return tree
    except PendingDeprecationWarning as old:
        raise NotAnExpression(
            "has text between backticks that isn't JSON", """expected `"text"` or 'text'"""
        ) from old
    except IncompleteExpressionError as cut:
        raise _not_jmespath(source, len(source.rstrip()), "ends too early") from cut
    except LexerError as letter:
        raise _not_jmespath(source, letter.lexer_position, letter.message) from letter
    except ParseError as word:
        told = _BEFORE_TOKEN.sub("", word.msg)
        raise _not_jmespath(source, word.lex_position, f"{told} at {word.token_value!r}") from word
    except (JMESPathError, ValueError) as error:
        text = str(error).splitlines()[0].rstrip(":")
        raise NotAnExpression(f"isn't JMESPath: {text}", "expected JMESPath") from error


def _not_jmespath(source: str, place: int, why: str) -> NotAnExpression:
    """Make an error at a place, and say the place as well: YAML may have folded lines."""
    problem = f"isn't JMESPath from its character {place + 1} on: {why}"
    return _at(source, place, problem, "expected JMESPath")


def _at(source: str, place: int, problem: str, expected: str) -> NotAnExpression:
    before = source[:place]
    line, column = before.count("\n") + 1, place - before.rfind("\n")
    return NotAnExpression(problem, expected, line, column)


class Wanted(dict[str, "Wanted"]):
    """Names of members, each with what is wanted of it; empty for everything."""


# The shape of these is their last child's, for each element or once.
_SHAPED_BY_LAST = frozenset({"subexpression", "pipe"})
_SHAPED_FOR_EACH = frozenset({"projection", "filter_projection", "value_projection"})


def _pruned(node: Mapping[str, Any], wanted: Wanted) -> Mapping[str, Any]:
    """Leave members out of the tree where it makes them; elsewhere it stays as it is."""
    if not wanted:
        return node
    kind, children = node["type"], list(node["children"])
    if kind == "multi_select_dict":
        kept = [child for child in children if child["value"] in wanted]
        pairs = [
            child | {"children": [_pruned(child["children"][0], wanted[child["value"]])]}
            for child in kept
        ]
        return {**node, "children": pairs}
    if kind in _SHAPED_BY_LAST:
        children[-1] = _pruned(children[-1], wanted)
    elif kind in _SHAPED_FOR_EACH:
        children[1] = _pruned(children[1], wanted)
    return {**node, "children": children}


def _lookups(node: Mapping[str, Any]) -> Iterator[str]:
    if node["type"] == "function_expression" and node["value"] == "lookup":
        first = node["children"][0] if node["children"] else {"type": ""}
        if first["type"] != "literal" or not isinstance(first["value"], str):
            raise NotAnExpression(
                "calls lookup with a part that is no literal", "expected lookup('part', key)"
            )
        yield first["value"]
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _lookups(child)


# The value of these is their first child's; the other children see what that gave.
_CHAINS = frozenset(
    {
        "subexpression",
        "index_expression",
        "projection",
        "value_projection",
        "filter_projection",
        "flatten",
        "pipe",
    }
)


def _members(node: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the members of a name that are read; `*` where it may be any. See `_first_fields`."""
    if node["type"] == "field" and node["value"] == name:
        yield "*"
        return
    first, *behind = node["children"] or [{}]
    if node["type"] in _CHAINS and first.get("value") == name and behind:
        yield from set(_first_fields(behind[0])) or {"*"}  # none are read of an index
        return
    for child in _applied(node):
        yield from _members(child, name)


def _parameters(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parameters that are read; `*` where it may be any."""
    names = [child.get("value") for child in node["children"] if isinstance(child, dict)]
    if node["type"] == "subexpression" and names[:2] == [REQUEST, QUERIES]:
        behind = node["children"][2:3]
        yield from set(_first_fields(behind[0]) if behind else ()) or {"*"}
    elif names[:1] != [REQUEST]:
        for child in _applied(node):
            yield from _parameters(child)
    elif any(name == QUERIES for name in _members(node, REQUEST)):
        yield "*"


def _first_fields(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that are read from the value itself; `*` where it may be any."""
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind in {"current", "identity"}:
        yield "*"
    for child in _applied(node):
        yield from _first_fields(child)


def _applied(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the children that are applied to the value itself, not to what another gives."""
    if node["type"] == "expref":
        return []
    children = node["children"][:1] if node["type"] in _CHAINS else node["children"]
    return [child for child in children if isinstance(child, dict)]
