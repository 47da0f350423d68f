"""Bodies: JMESPath over JSON, with `lookup('PART', KEY)`; strict JSON in, compact JSON out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import jmespath
import orjson
from jmespath import functions
from jmespath.exceptions import JMESPathError

from extproc.expressions.conditions import NotAnExpression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class NotJson(ValueError):
    """The bytes aren't JSON (RFC 8259), or nest too deep."""


def parsed(body: bytes) -> Any:
    """Read JSON strictly: UTF-8, bounded depth, no NaN.

    Raises:
        NotJson: it isn't.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from error


def written(value: Any) -> bytes:
    """Write compact JSON."""
    return orjson.dumps(value)


class _Functions(functions.Functions):  # type: ignore[misc]  # published without types
    """The standard functions and `lookup`."""

    def __init__(self, indexes: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self._indexes = indexes

    @functions.signature({"types": ["string"]}, {"types": []})  # type: ignore[untyped-decorator]
    def _func_lookup(self, part: str, key: Any) -> Any:
        return self._indexes.get(part, {}).get(key_text(key))


def key_text(key: Any) -> str:
    """Return the text by which keys compare: JSON's, so that 7 equals "7"."""
    return key if isinstance(key, str) else written(key).decode()


class ShapeFailed(Exception):
    """A shape can't be made of this value, for example a function got the wrong type."""


class Projection:
    """A compiled JMESPath expression."""

    def __init__(self, source: str) -> None:
        """Compile.

        Raises:
            NotAnExpression: it isn't JMESPath, or `lookup` doesn't name its part literally.
        """
        self.source = source
        try:
            with warnings.catch_warnings():
                # The lexer takes `text` that isn't JSON for a string, with a warning: JMESPath's
                # grammar has no such literal any more.
                warnings.simplefilter("error", PendingDeprecationWarning)
                self._compiled = jmespath.compile(source)
        except PendingDeprecationWarning as error:
            raise NotAnExpression(
                "has text between backticks that isn't JSON", """expected `"text"` or 'text'"""
            ) from error
        except (JMESPathError, ValueError) as error:
            text = str(error).splitlines()[0].rstrip(":")
            raise NotAnExpression(f"isn't JMESPath: {text}", "expected JMESPath") from error
        self.lookups = frozenset(_lookups(self._compiled.parsed))
        self.fields = frozenset(_first_fields(self._compiled.parsed)) | self.lookups

    def of(self, value: Any, indexes: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
        """Apply to a value.

        Raises:
            ShapeFailed: a function refused its argument.
        """
        options = jmespath.Options(custom_functions=_Functions(indexes)) if indexes else None
        try:
            return self._compiled.search(value, options=options)
        except (JMESPathError, RecursionError) as error:
            raise ShapeFailed(self.source) from error


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


def _first_fields(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that are read from the value itself; `*` where it may be any."""
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind in {"current", "identity"}:
        yield "*"
    elif kind != "expref":
        children = node["children"][:1] if kind in _CHAINS else node["children"]
        for child in children:
            if isinstance(child, dict):
                yield from _first_fields(child)
