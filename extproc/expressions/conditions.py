"""Conditions: CEL over declared, typed names, compiled once, evaluated per request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from cel_expr_python import cel

from extproc.core.errors import ConfigFault
from extproc.core.values import MalformedRequest, Request, Response
from extproc.expressions.bounded import bounded
from extproc.expressions.memory import Memory
from extproc.expressions.metered import Allowance, OverBudget, paid
from extproc.expressions.mistakes import explained, said
from extproc.expressions.names import REQUEST_NAMES, declared, environment
from extproc.expressions.reads import Reads
from extproc.expressions.rewriting import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(slots=True, init=False)
class Context:
    """What an expression is evaluated over.

    Attributes:
        request: the request.
        now: seconds since the epoch.
        response: where there is one.
        parts: results of calls by name, in an aggregation.
        body: the request's, where the route asks for it.
        taken: what CEL made of values already, by their names; None where that isn't kept.
        own: names whose values only this context has, of several of one exchange.
        known: what expressions gave that read none of these; None where that isn't kept.
        allowance: what all may look through together; None for each its own.
    """

    request: Request
    now: float
    response: Response | None
    parts: Mapping[str, Any] | None
    body: Any
    taken: dict[tuple[str, ...], tuple[list[Any], Any]] | None
    own: frozenset[str]
    known: dict[Expression, Any] | None
    allowance: Allowance | None

    def __init__(
        self,
        request: Request,
        now: float = 0.0,
        response: Response | None = None,
        parts: Mapping[str, Any] | None = None,
        body: Any = None,
        taken: dict[tuple[str, ...], tuple[list[Any], Any]] | None = None,
        own: frozenset[str] = frozenset(),
        known: dict[Expression, Any] | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.request = request
        self.now = now
        self.response = response
        self.parts = parts
        self.body = body
        self.taken = taken
        self.own = own
        self.known = known
        self.allowance = allowance


_GETTERS: dict[str, Callable[[Context], Any]] = {
    "request.id": lambda c: c.request.id,
    "request.method": lambda c: c.request.method,
    "request.scheme": lambda c: c.request.scheme,
    "request.host": lambda c: c.request.host,
    "request.path": lambda c: c.request.path,
    "request.address": lambda c: c.request.address,
    "request.route": lambda c: c.request.route,
    "request.time": lambda c: datetime.fromtimestamp(c.now, UTC),
    "request.headers": lambda c: c.request.headers.joined(),
    "request.params": lambda c: c.request.params,
    "request.body": lambda c: c.body,
    "request.queries": lambda c: c.request.queries,
    "principal.authenticator": lambda c: c.request.principal.authenticator,
    "principal.kind": lambda c: c.request.principal.kind,
    "principal.subject": lambda c: c.request.principal.subject,
    "principal.issuer": lambda c: c.request.principal.issuer,
    "principal.scopes": lambda c: list(c.request.principal.scopes),
    "principal.claims": lambda c: dict(c.request.principal.claims),
    "consumer": lambda c: c.request.consumer,
    "response.status": lambda c: c.response.status if c.response else 0,
    "response.headers": lambda c: c.response.headers.joined() if c.response else {},
}

# Maps that may be large, of which CEL is given what is read.
_MAPS = ("request.body", "request.headers", "response.headers", "principal.claims")
Keys = dict[str, tuple[str, ...] | None]
"""Which keys are read, by the name of the map; None for any."""

_MEMBERS = re.compile(r"[a-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")


class NotAnExpression(ConfigFault):
    """An expression doesn't compile.

    Attributes:
        problem: what is wrong.
        expected: what would be right.
        line: within the expression, from 1.
        column: within its line, from 1.
        unknown: the name that doesn't exist, where that is what is wrong.
    """

    def __init__(
        self, problem: str, expected: str, line: int = 1, column: int = 1, unknown: str = ""
    ) -> None:
        super().__init__(f"{problem}, {expected}")
        self.problem = problem
        self.expected = expected
        self.line = line
        self.column = column
        self.unknown = unknown


class Expression:
    """A compiled CEL expression.

    An expression is a pure function of the names it reads. One that reads only the principal
    and what few requests differ in is evaluated once for each combination of those.
    """

    def __init__(
        self,
        source: str,
        compiled: Any,
        names: tuple[str, ...],
        reads: Reads,
        parts: tuple[str, ...] = (),
        environment: Any = None,
        *,
        metered: bool = False,
    ) -> None:
        self.source = source
        self._metered = metered
        self.names = names
        self.reads = reads
        self._given = names  # what CEL is given, and of maps which keys; see `together`
        maps = [name for name in (*_MAPS, *parts) if name in names]
        self._keys: Keys = {name: reads.keys(name) for name in maps}
        self._compiled = compiled
        self._environment = environment  # None: nothing that CEL makes of values may be kept
        self._direct = _direct(source, parts)
        self._memory: Memory[Any] = Memory(names)
        self._query_names: tuple[str, ...] | None = ()
        if "request.query" in names:
            self._query_names = reads.keys("request.query", values=True)
        self.type: str = compiled.return_type().name()

    @property
    def keeps(self) -> bool:
        """Say whether what CEL makes of values may be kept for others."""
        return self._environment is not None

    @property
    def keys(self) -> Keys:
        """Return which keys of maps CEL is given."""
        return self._keys

    def gives(self, names: tuple[str, ...], keys: Keys) -> None:
        """Give CEL these names from now on, and these keys of maps: more than it reads."""
        self._given = names
        self._keys = keys

    def value(self, context: Context) -> Any:
        """Evaluate to a plain Python value; `EvaluationFailed` where CEL says error.

        Raises:
            EvaluationFailed: a missing map key, a wrong type at run time, a budget overrun.
            MalformedRequest: the request's query can't be decoded, or a parameter that is read
                as one value was sent more than once.
        """
        if self._direct is not None:
            return self._direct(context)
        if not self._memory.applies:
            if context.known is not None:
                return self._once(context, context.known)
            return self._evaluated(context)
        known = self._memory.get(context.request)
        if known is None:
            known = self._evaluated(context)
            if isinstance(known, bool | str):  # a list or map could be changed by who gets it
                self._memory.put(context.request, known)
        return known

    def _once(self, context: Context, known: dict[Expression, Any]) -> Any:
        """Evaluate for all contexts of an exchange together, where it reads nothing of one alone.

        Each of a hundred calls would have CEL take over the same large part.
        """
        if self in known:
            return known[self]
        value = self._evaluated(context)
        if isinstance(value, bool | str | int | float) and context.own.isdisjoint(self.names):
            known[self] = value
        return value

    def _evaluated(self, context: Context) -> Any:
        try:
            if context.taken is not None and self._environment is not None:
                given = {"activation": self._taken(context.taken, context)}
            else:
                given = {"data": {name: self._get(name, context) for name in self.names}}
            if self._metered:
                result = paid(partial(self._compiled.eval, **given), context.allowance)
            else:
                result = self._compiled.eval(**given)
        except OverBudget as spent:
            raise EvaluationFailed(self.source, spent) from spent
        except RuntimeError as error:  # too many iterations, or a text that UTF-8 can't say
            raise EvaluationFailed(self.source, error) from error
        if result.type().name() == "ERROR":
            raise EvaluationFailed(self.source, result)
        return result.plain_value()

    def _taken(self, taken: dict[tuple[str, ...], tuple[list[Any], Any]], context: Context) -> Any:
        """Return values as CEL has them: what it makes of one it keeps."""
        names = self._given
        values = [self._get(name, context) for name in names]
        known = taken.get(names)
        if known is None or known[0] != values:  # one and the same is equal without a look at it
            made = self._environment.Activation(dict(zip(names, values, strict=True)))
            known = taken[names] = (values, made)
        return known[1]

    def _get(self, name: str, context: Context) -> Any:
        if name == "request.query":
            return _single_query(context.request, self._query_names)
        getter = _GETTERS.get(name)
        value = (context.parts or {}).get(name) if getter is None else getter(context)
        keys = self._keys.get(name)
        if keys is not None and isinstance(value, dict):
            # CEL makes a copy of all that it is given: a megabyte takes it a tenth of a second.
            value = {key: value[key] for key in keys if key in value}
        return _fitting(value) if getter is None else value


def together(expressions: Iterable[Expression]) -> None:
    """Let what reads a body share what CEL makes of it, if one context is `taken` from for all.

    To take a large body over costs CEL far more than to judge it, and each would pay for it again.
    So each is given what any of them reads, which costs next to nothing. Left alone is what builds
    lists, as these would be kept as well, and what a query that can't be decoded is no matter of.
    """
    of_query = {"request.query", "request.queries"}
    able = [
        e
        for e in expressions
        if e.keeps and "request.body" in e.names and of_query.isdisjoint(e.names)
    ]
    given = tuple(sorted({name for expression in able for name in expression.names}))
    keys: Keys = {}
    for name in given:
        read = [expression.keys[name] for expression in able if name in expression.keys]
        known = [some for some in read if some is not None]
        if read and len(known) == len(read):
            keys[name] = tuple(sorted({key for some in known for key in some}))
    for expression in able:
        expression.gives(given, keys)


class EvaluationFailed(Exception):
    """An expression has no value for this request.

    Args:
        source: the expression.
        error: what CEL says, where it does: its error, put into words when somebody asks.
    """

    def __init__(self, source: str, error: object = None) -> None:
        super().__init__(source)
        self._error = error

    @property
    def problem(self) -> str:
        """Say why; empty where that isn't known."""
        return "" if self._error is None else said(str(self._error))


def _fitting(part: Any) -> Any:
    """Return a part with floats for integers beyond 64 bits: CEL has none, and refuses the whole.

    `orjson` tells of them, and makes floats of them; to go through a large part here, or to have
    CEL say where the integer stands, would take far longer.
    """
    try:
        orjson.dumps(part)
    except TypeError:
        try:
            return orjson.loads(json.dumps(part, check_circular=False))
        except (TypeError, ValueError):
            return part
    return part


def _direct(source: str, parts: tuple[str, ...]) -> Callable[[Context], Any] | None:
    """Return what reads a name, a parameter or a member of a part or body without CEL.

    CEL would first make a copy of the whole of it, for each hole that reads a member.
    """
    name = source.strip()
    if REQUEST_NAMES.get(name) is cel.Type.STRING:
        return _GETTERS[name]
    if not _MEMBERS.match(name):
        return None
    first, *members = name.split(".")
    if first in parts:
        return lambda context: _member((context.parts or {}).get(first), members, name)
    return _direct_of_request(members, name) if first == "request" else None


def _direct_of_request(members: list[str], name: str) -> Callable[[Context], Any] | None:
    """Return what reads a parameter, or the body or a member of it."""
    if members[:1] == ["body"]:
        return lambda context: _member(context.body, members[1:], name)
    if len(members) == 2 and members[0] == "params":  # noqa: PLR2004 - its name
        return lambda context: _member(context.request.params, members[1:], name)
    if len(members) == 2 and members[0] == "query":  # noqa: PLR2004 - as above
        return lambda context: _parameter(context.request, members[1], name)
    return None


def _parameter(request: Request, name: str, source: str) -> str:
    values = request.queries.get(name)
    if values is None:
        raise EvaluationFailed(source, f'"{name}" isn\'t there')
    if len(values) > 1:
        raise MalformedRequest(f"the query parameter {name} was sent more than once")
    return values[0]


def _member(value: Any, members: list[str], source: str) -> Any:
    for member in members:
        if not isinstance(value, dict) or member not in value:
            raise EvaluationFailed(source, f'"{member}" isn\'t there')
        value = value[member]
    return value


class Condition:
    """An expression that is true or false."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def holds(self, context: Context) -> bool:
        """Evaluate.

        Raises:
            EvaluationFailed: it is neither.
            MalformedRequest: see `Expression.value`.
        """
        value = self.expression.value(context)
        if not isinstance(value, bool):
            raise EvaluationFailed(self.expression.source, "it is neither true nor false")
        return value


def condition(
    source: str, *, response: bool = False, body: bool = False, parts: tuple[str, ...] = ()
) -> Condition:
    """Compile a condition.

    Args:
        source: CEL.
        response: whether `response.…` may be read.
        body: whether `request.body` may be read.
        parts: further names of any type.

    Raises:
        NotAnExpression: it doesn't compile, or isn't a condition.
    """
    expression = compile_expression(source, response=response, body=body, parts=parts)
    if expression.type not in {"BOOL", "DYN"}:
        raise NotAnExpression(
            f"is {expression.type.lower()}", "expected a condition (true or false)"
        )
    return Condition(expression)


def compile_expression(
    source: str, *, response: bool = False, parts: tuple[str, ...] = (), body: bool = False
) -> Expression:
    """Compile any expression; `parts` are further names of any type.

    Raises:
        NotAnExpression: it doesn't compile.
    """
    names = declared(response=response, parts=parts, body=body)
    try:
        place = environment(response, parts, body)
        plain = place.compile(source)
        plain.return_type()  # not every type that compiles is one
        paying = partial(environment, response, parts, body, paying=True)
        tree = Tree(plain)
        reads = Reads(tree)  # before it is changed
        compiled, builds, metered = bounded(place, tree, paying=paying)
    except (RuntimeError, ValueError) as error:
        raise NotAnExpression(*explained(str(error), source, names)) from error
    _patterns_compile(reads)
    _headers_are_lower_case(reads)
    # What it makes is kept with what it is given, and lists that it builds may be large.
    keeping = None if builds else place
    read = reads.names(names)
    return Expression(source, compiled, read, reads, parts, keeping, metered=metered)


def _patterns_compile(reads: Reads) -> None:
    """Refuse a written pattern of `matches` that isn't one: each evaluation would fail."""
    place = environment(response=False, parts=(), body=False)
    for pattern in reads.patterns:
        tried = place.compile('"".matches(request.id)').eval(data={"request.id": pattern})
        if tried.type().name() == "ERROR":
            problem = f'matches by "{pattern[:60]}", which is no regular expression'
            raise NotAnExpression(problem, "expected one of RE2")


def _headers_are_lower_case(reads: Reads) -> None:
    """Refuse a header that is never there: a rule about it would never, or always, deny."""
    for name in ("request.headers", "response.headers"):
        for key in reads.keys(name) or ():
            if key != key.lower():
                problem = f"reads the header {key}, and their names are in lower case here"
                raise NotAnExpression(problem, f"did you mean {key.lower()}?")


def reading(name: str) -> Callable[[Context], Any]:
    """Return what reads a name; of a query's parameter sent several times, all values."""
    if name == "request.query":
        return lambda context: {
            name: values[0] if len(values) == 1 else values
            for name, values in context.request.queries.items()
        }
    return _GETTERS[name]


def _single_query(request: Request, names: tuple[str, ...] | None) -> dict[str, str]:
    queries = request.queries
    for name in queries if names is None else names:
        if len(queries.get(name, ())) > 1:
            raise MalformedRequest(f"the query parameter {name} was sent more than once")
    return {name: values[0] for name, values in queries.items()}
