"""What the compiler of CEL says of a mistake, in words that lead to what was meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from extproc.core.near import near
from extproc.expressions.bounded import TOO_LONG, TOO_MANY, TOO_MANY_LETTERS
from extproc.expressions.metered import TOO_MUCH
from extproc.expressions.zones import NO_ZONE

if TYPE_CHECKING:
    from collections.abc import Iterable

_WHERE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")
_UNFIT = re.compile(r"found no matching overload for '(\w+)' applied to '\((list\()?")

_STATUS = re.compile(r"\A[A-Z_]+: ")
_LACKS = re.compile(r"Key not found in map : (.{1,200})\Z", re.DOTALL)

FUNCTIONS = {
    "all": 'principal.scopes.all(s, s.startsWith("a"))',
    "bool": 'bool("true")',
    "bytes": 'bytes("a")',
    "charAt": "request.path.charAt(0)",
    "contains": 'request.path.contains("a")',
    "double": 'double("1.5")',
    "duration": 'duration("10s")',
    "dyn": "dyn(1)",
    "endsWith": 'request.path.endsWith("a")',
    "exists": 'principal.scopes.exists(s, s == "a")',
    "exists_one": 'principal.scopes.exists_one(s, s == "a")',
    "filter": 'principal.scopes.filter(s, s != "a")',
    "format": '"%s-%d".format(["a", 1])',
    "getDate": "request.time.getDate()",
    "getDayOfMonth": "request.time.getDayOfMonth()",
    "getDayOfWeek": "request.time.getDayOfWeek()",
    "getDayOfYear": "request.time.getDayOfYear()",
    "getFullYear": "request.time.getFullYear()",
    "getHours": 'request.time.getHours("Europe/Berlin")',
    "getMilliseconds": "request.time.getMilliseconds()",
    "getMinutes": "request.time.getMinutes()",
    "getMonth": "request.time.getMonth()",
    "getSeconds": "request.time.getSeconds()",
    "has": "has(principal.claims.a)",
    "indexOf": 'request.path.indexOf("a")',
    "int": 'int("1")',
    "join": 'principal.scopes.join(" ")',
    "lastIndexOf": 'request.path.lastIndexOf("a")',
    "lowerAscii": "request.path.lowerAscii()",
    "map": "principal.scopes.map(s, s.lowerAscii())",
    "matches": 'request.path.matches("^/a")',
    "quote": "strings.quote(request.path)",
    "replace": 'request.path.replace("a", "b")',
    "reverse": "request.path.reverse()",
    "size": "size(principal.scopes)",
    "split": 'request.path.split("/")',
    "startsWith": 'request.path.startsWith("/a")',
    "string": "string(1)",
    "substring": "request.path.substring(0, 2)",
    "timestamp": 'timestamp("2026-01-01T00:00:00Z")',
    "trim": "request.path.trim()",
    "type": "type(request.path)",
    "uint": "uint(1)",
    "upperAscii": "request.path.upperAscii()",
}
"""Every function that expressions may call, each in an example."""


_SUCH = "expected one of CEL's, such as contains, startsWith or size"


class Mistake(NamedTuple):
    """What is wrong with an expression.

    Attributes:
        problem: what is wrong.
        expected: what would be right.
        line: within the expression, from 1.
        column: within its line, from 1.
        unknown: the name that doesn't exist, where that is what is wrong.
    """

    problem: str
    expected: str
    line: int = 1
    column: int = 1
    unknown: str = ""


def explained(message: str, source: str, names: Iterable[str]) -> Mistake:
    """Translate the compiler's message; a misspelt name or function gets a near one.

    Args:
        message: what the compiler said.
        source: the expression.
        names: those that it may read.
    """
    said = [(int(line), int(column), text) for line, column, text in _WHERE.findall(message)]
    if not said:
        return Mistake(f"doesn't compile: {message.strip()}", "expected CEL")
    lines = source.splitlines()
    for line, column, text in said:
        # A function is told after its arguments, which are often unknown for its sake alone.
        found = _UNDECLARED.search(text)
        if found and lines[line - 1 : line] and lines[line - 1][column - 1 : column] == "(":
            return _function(found[1], line, max(column - len(found[1]), 1))
    line, column, text = said[0]
    found = _UNDECLARED.search(text)
    if found:
        problem = f"reads {found[1]}, which doesn't exist"
        return Mistake(problem, near(found[1], names), line, column, found[1])
    unfit = _UNFIT.search(text)
    if unfit and unfit[1] == "contains" and unfit[2]:
        return Mistake("asks a list what it contains", "expected `value in list`", line, column)
    text = text.replace(" (in container '')", "")
    return Mistake(f"doesn't compile: {text}", "expected CEL", line, column)


def said(error: str) -> str:
    """Translate what the runtime says of an expression that has no value."""
    text = _STATUS.sub("", error.strip())
    lacks = _LACKS.match(text)
    for bound in (TOO_LONG, TOO_MANY, TOO_MANY_LETTERS, TOO_MUCH, NO_ZONE):
        if bound in text:
            return bound
    if lacks is not None:
        return f"{lacks[1]} isn't there"
    if "budget" in text:
        return "it goes through too many elements"
    return text[:1].lower() + text[1:].removesuffix(" [INTERNAL]")


def _function(name: str, line: int, column: int) -> Mistake:
    example = FUNCTIONS.get(name)
    if example is not None:  # it is told like one that doesn't exist
        problem, expected = f"calls {name} with what it doesn't take", f"expected as in {example}"
        return Mistake(problem, expected, line, column)
    expected = near(name, FUNCTIONS, _SUCH)
    return Mistake(f"calls {name}, which is no function", expected, line, column)
