"""Values: text with holes. Text stands for itself, `{expression}` is filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from extproc.expressions.conditions import (
    EvaluationFailed,
    Expression,
    NotAnExpression,
    compile_expression,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from extproc.expressions.conditions import Context

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "") + " "
_QUOTES = "\"'"
_NOT_IN_TARGET = re.compile(r"[^\x21-\x7e]|#")  # a fragment is never sent (RFC 9110 7.1)
_LARGEST = 1 << 63
_SECOND = timedelta(seconds=1)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*\Z")  # RFC 3986 section 2.3


Pieces = tuple["str | Expression", ...]


class NoValue(Exception):
    """A hole has no value: a map, null, an error, or what its place doesn't allow.

    Attributes:
        source: the hole, or what is wrong with its value.
        names: what the hole reads; empty where it isn't one hole's trouble.
    """

    def __init__(self, source: str, names: Iterable[str] = ()) -> None:
        super().__init__(source)
        self.source = source
        self.names = frozenset(names)


@dataclass(frozen=True, slots=True)
class Template:
    """Text with holes, compiled.

    Attributes:
        source: as written.
        pieces: literal text and expressions, in order.
    """

    source: str
    pieces: tuple[str | Expression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return which names the holes read."""
        return tuple(
            dict.fromkeys(n for p in self.pieces if isinstance(p, Expression) for n in p.names)
        )

    def header(self, context: Context) -> str:
        """Fill in for a header: printable ASCII stays, other bytes are percent-encoded.

        So are blanks at either end of a value: HTTP drops those of a field (RFC 9110 section
        5.5), and ` admin` must not arrive as `admin`.

        Raises:
            NoValue: a hole has none.
            MalformedRequest: see `Expression.value`.
        """
        if len(self.pieces) == 1:
            (piece,) = self.pieces
            if isinstance(piece, str):
                return _for_header(piece.strip(" "))
            return _for_header(_text(piece, context))
        return self._filled(context, _for_header).strip(" ")

    def text(self, context: Context) -> str:
        """Fill in as it is.

        Raises:
            NoValue: a hole has none.
            MalformedRequest: see `Expression.value`.
        """
        return self._filled(context, str)

    def texts(self, context: Context, most: int) -> list[str]:
        """Fill in as it is, once for each value of a list: what stands around it is in each.

        A text with commas is a list of what stands between them, without blanks at the ends, be it
        what a hole gives or what is written out.

        Args:
            context: what it is filled in from.
            most: of how many texts, where several holes give lists.

        Raises:
            NoValue: a hole has none.
            MalformedRequest: see `Expression.value`.
        """
        choices = [
            [piece] if isinstance(piece, str) else _listed(_text(piece, context))
            for piece in self.pieces
        ]
        several = sum(len(values) > 1 for values in choices) > 1
        filled = islice(product(*choices), most if several else None)
        return [text for pieces in filled for text in _listed("".join(pieces)) if text]

    def value(self, context: Context) -> Any:
        """Fill in for JSON: a text that is one hole keeps its type, null where it has no value.

        Raises:
            NoValue: a hole among text has none.
            MalformedRequest: see `Expression.value`.
        """
        if len(self.pieces) == 1 and isinstance(self.pieces[0], Expression):
            try:
                value = self.pieces[0].value(context)
            except EvaluationFailed:
                return None
            return as_text(value) if isinstance(value, datetime | timedelta) else value
        return self.text(context)

    def target(self, context: Context) -> str:
        """Fill in for a path and query: each hole is one segment, or one query value.

        A query parameter whose hole has no value is left out.

        Raises:
            NoValue: a hole of the path has none, or would be an empty, `.` or `..` segment.
            MalformedRequest: see `Expression.value`.
        """
        if len(self.pieces) == 1 and isinstance(self.pieces[0], str):
            return _constant(self.pieces[0])
        path, parameters = _parted(self.pieces)
        filled = ""
        for piece in path:
            filled += piece if isinstance(piece, str) else _segment(piece, context)
        if _climbs(filled):
            raise NoValue(self.source, self.names)
        if parameters is None:
            return filled
        query = [text for p in parameters if (text := _parameter(p, context)) is not None]
        return f"{filled}?{'&'.join(query)}" if query else filled

    def never_a_target(self) -> str:
        """Return why no values of the holes make this a path and query; empty if they can."""
        fixed = "".join([piece if isinstance(piece, str) else "x" for piece in self.pieces])
        wrong = _NOT_IN_TARGET.search(fixed)
        if wrong is not None:
            return f"holds {wrong[0]!r}, which must be percent-encoded"
        return "has a . or .. segment" if _climbs(fixed.partition("?")[0]) else ""

    def _filled(self, context: Context, encode: Callable[[str], str]) -> str:
        return "".join(
            piece if isinstance(piece, str) else encode(_text(piece, context))
            for piece in self.pieces
        )


def _climbs(path: str) -> bool:
    """Say whether a path has a segment that stands for another one."""
    return "/." in path and any(part in {".", ".."} for part in path.split("/"))


@lru_cache(maxsize=4096)
def _constant(target: str) -> str:
    """Return a target without holes as it is.

    Raises:
        NoValue: as for one with holes.
    """
    if _climbs(target.partition("?")[0]):
        raise NoValue(target)
    return target


@lru_cache(maxsize=4096)
def _parted(pieces: Pieces) -> tuple[Pieces, tuple[Pieces, ...] | None]:
    """Return a target's path, and its query's parameters; None without a query."""
    path: list[str | Expression] = []
    parameters: list[list[str | Expression]] | None = None
    for piece in pieces:
        if not isinstance(piece, str):
            (path if parameters is None else parameters[-1]).append(piece)
            continue
        text = piece
        if parameters is None:
            before, mark, text = piece.partition("?")
            path.append(before)
            if not mark:
                continue
            parameters = [[]]
        first, *others = text.split("&")
        parameters[-1].append(first)
        parameters += [[other] for other in others]
    if parameters is None:
        return tuple(path), None
    return tuple(path), tuple(map(tuple, parameters))


def _parameter(pieces: Pieces, context: Context) -> str | None:
    try:
        return "".join([p if isinstance(p, str) else _quoted(_text(p, context)) for p in pieces])
    except NoValue:
        return None


def _quoted(text: str) -> str:
    return text if _UNRESERVED.match(text) else quote(text, safe="")


def template(
    source: str, *, response: bool = False, parts: tuple[str, ...] = (), body: bool = False
) -> Template:
    """Compile text with holes.

    Raises:
        NotAnExpression: a brace without its pair, or an expression that doesn't compile.
    """
    pieces: list[str | Expression] = []
    literal, place = "", 0
    while place < len(source):
        two = source[place : place + 2]
        if two in {"{{", "}}"}:
            literal, place = literal + two[0], place + 2
        elif source[place] == "{":
            end = _end_of_hole(source, place)
            if literal:
                pieces.append(literal)
            pieces.append(_hole(source, place, end, response=response, parts=parts, body=body))
            literal, place = "", end + 1
        elif source[place] == "}":
            raise NotAnExpression("holds a } without its {", "write }} for a brace", 1, place + 1)
        else:
            literal, place = literal + source[place], place + 1
    if literal:
        pieces.append(literal)
    return Template(source, tuple(pieces))


def _hole(
    source: str, start: int, end: int, *, response: bool, parts: tuple[str, ...], body: bool
) -> Expression:
    expression = source[start + 1 : end]
    if not expression.strip():
        raise NotAnExpression("holds an empty hole", "write {{ for a brace", 1, start + 1)
    try:
        return compile_expression(expression, response=response, parts=parts, body=body)
    except NotAnExpression as error:
        column = error.column + (start + 1 if error.line == 1 else 0)
        raise NotAnExpression(
            error.problem, error.expected, error.line, column, error.unknown
        ) from error


def _end_of_hole(source: str, start: int) -> int:
    """Return where the hole's brace closes; braces in quotes or pairs don't close it."""
    depth, quoted, place = 0, "", start
    while place < len(source):
        character = source[place]
        if quoted:
            place += character == "\\"
            quoted = "" if character == quoted else quoted
        elif character in _QUOTES:
            quoted = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return place
        place += 1
    raise NotAnExpression("holds a { without its }", "write {{ for a brace", 1, start + 1)


def _listed(text: str) -> list[str]:
    """Return what stands between commas; of nothing else that is nothing, once."""
    return [part for one in text.split(",") if (part := one.strip())] or [""]


def _text(expression: Expression, context: Context) -> str:
    try:
        return as_text(expression.value(context))
    except (EvaluationFailed, NoValue) as error:
        raise NoValue(expression.source, expression.names) from error


def as_text(value: Any) -> str:
    """Write a value as text; a moment and a duration as CEL's `string` does.

    Raises:
        NoValue: a map, null, or a list that holds one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list):
        return ",".join(as_text(item) for item in _scalars(value))
    if isinstance(value, datetime | timedelta):
        return _time_text(value)
    raise NoValue(type(value).__name__)


def _time_text(value: datetime | timedelta) -> str:
    if isinstance(value, timedelta):
        sign, size = ("-", -value) if value < timedelta() else ("", value)
        return f"{sign}{size // _SECOND}{_fraction(size.microseconds)}s"
    utc = value.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.replace(microsecond=0).isoformat()}{_fraction(utc.microsecond)}Z"


def _fraction(microseconds: int) -> str:
    """Return the fraction of a second: none, or three or six digits of it."""
    if not microseconds:
        return ""
    thousandths, rest = divmod(microseconds, 1000)
    return f".{microseconds:06}" if rest else f".{thousandths:03}"


def number_text(value: float) -> str:
    """Write a number with a fraction; one without is the integer that it is (7.0 is 7)."""
    return str(int(value)) if value.is_integer() and abs(value) < _LARGEST else repr(value)


def _scalars(values: list[Any]) -> list[Any]:
    if any(isinstance(item, list | dict) or item is None for item in values):
        raise NoValue("list")
    return values


def _for_header(text: str) -> str:
    if _PLAIN.match(text):
        return text
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    behind = len(text) - len(inner) - before
    return f"{'%20' * before}{quote(inner, safe=_PRINTABLE)}{'%20' * behind}"


_PLAIN = re.compile(r"(?! )[\x20-\x24\x26-\x7e]*(?<! )\Z")


def _segment(expression: Expression, context: Context) -> str:
    """Percent-encode one segment: all but unreserved characters (RFC 3986 section 2.3)."""
    text = _text(expression, context)
    if text in {"", ".", ".."}:
        raise NoValue(expression.source, expression.names)
    return _quoted(text)
