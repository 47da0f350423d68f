"""Conditions: CEL over declared, typed names, compiled once, evaluated per request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import orjson
from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from extproc.core.errors import ConfigFault
from extproc.core.values import MalformedRequest
from extproc.expressions.bounded import bounded
from extproc.expressions.memory import Memory
from extproc.expressions.metered import OverBudget, functions, paid
from extproc.expressions.mistakes import explained, said
from extproc.expressions.reads import keys_read, names_read, patterns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from extproc.core.values import Request, Response

_TYPES = cel.Type
_TEXTS = _TYPES.Map(_TYPES.STRING, _TYPES.STRING)

REQUEST_NAMES: dict[str, Any] = {
    "request.id": _TYPES.STRING,
    "request.method": _TYPES.STRING,
    "request.scheme": _TYPES.STRING,
    "request.host": _TYPES.STRING,
    "request.path": _TYPES.STRING,
    "request.address": _TYPES.STRING,
    "request.route": _TYPES.STRING,
    "request.time": _TYPES.TIMESTAMP,
    "request.headers": _TEXTS,
    "request.query": _TEXTS,
    "request.params": _TEXTS,
    "request.queries": _TYPES.Map(_TYPES.STRING, _TYPES.List(_TYPES.STRING)),
    "principal.authenticator": _TYPES.STRING,
    "principal.kind": _TYPES.STRING,
    "principal.subject": _TYPES.STRING,
    "principal.issuer": _TYPES.STRING,
    "principal.scopes": _TYPES.List(_TYPES.STRING),
    "principal.claims": _TYPES.Map(_TYPES.STRING, _TYPES.DYN),
    "consumer": _TYPES.STRING,
}
BODY_NAMES: dict[str, Any] = {"request.body": _TYPES.DYN}
RESPONSE_NAMES: dict[str, Any] = {
    "response.status": _TYPES.INT,
    "response.headers": _TEXTS,
}


@dataclass(slots=True)
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
    """

    request: Request
    now: float = 0.0
    response: Response | None = None
    parts: Mapping[str, Any] | None = None
    body: Any = None
    taken: dict[tuple[str, ...], tuple[list[Any], Any]] | None = None
    own: frozenset[str] = frozenset()
    known: dict[Expression, Any] | None = None


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

_MEMBERS = re.compile(r"[a-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")


class NotAnExpression(ConfigFault):
    """An expression doesn't compile.

    Attributes:
        problem: what is wrong.
        expected: what would be right.
        line: within the expression, from 1.
        column: within its line, from 1.
    """

    def __init__(self, problem: str, expected: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{problem}, {expected}")
        self.problem = problem
        self.expected = expected
        self.line = line
        self.column = column


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
        parts: tuple[str, ...] = (),
        environment: Any = None,
        *,
        metered: bool = False,
    ) -> None:
        self.source = source
        self._metered = metered
        self.names = names
        self._given = names  # what CEL is given; see `together`
        self._compiled = compiled
        self._environment = environment  # None: nothing that CEL makes of values may be kept
        self._direct = _direct(source, parts)
        self._memory: Memory[Any] = Memory(names)
        self._query_names: tuple[str, ...] | None = ()
        if "request.query" in names:
            self._query_names = keys_read(source, "request.query", values=True)
        self.type: str = compiled.return_type().name()

    @property
    def keeps(self) -> bool:
        """Say whether what CEL makes of values may be kept for others."""
        return self._environment is not None

    def gives(self, names: tuple[str, ...]) -> None:
        """Give CEL these names from now on, which are more than it reads."""
        self._given = names

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
                result = paid(partial(self._compiled.eval, **given))
            else:
                result = self._compiled.eval(**given)
        except OverBudget as error:
            raise EvaluationFailed(self.source, error) from error
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
        if getter is not None:
            return getter(context)
        return _fitting((context.parts or {}).get(name))


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
    for expression in able:
        expression.gives(given)


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
    if REQUEST_NAMES.get(name) is _TYPES.STRING:
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
    names = _names(response=response, parts=parts, body=body)
    try:
        environment = _environment(response, parts, body)
        plain = environment.compile(source)
        paying = partial(_environment, response, parts, body, paying=True)
        compiled, builds, metered = bounded(environment, plain, paying=paying)
    except (RuntimeError, ValueError) as error:
        raise NotAnExpression(*explained(str(error), source, names)) from error
    _patterns_compile(source)
    _headers_are_lower_case(source)
    # What it makes is kept with what it is given, and lists that it builds may be large.
    keeping = None if builds else environment
    return Expression(source, compiled, names_read(source, names), parts, keeping, metered=metered)


def _patterns_compile(source: str) -> None:
    """Refuse a written pattern of `matches` that isn't one: each evaluation would fail."""
    environment = _environment(response=False, parts=(), body=False)
    for pattern in patterns_of(source):
        tried = environment.compile(f'"".matches({pattern})').eval(data={})
        if tried.type().name() == "ERROR":
            problem = f"matches by {pattern[:60]}, which is no regular expression"
            raise NotAnExpression(problem, "expected one of RE2")


def _headers_are_lower_case(source: str) -> None:
    """Refuse a header that is never there: a rule about it would never, or always, deny."""
    for name in ("request.headers", "response.headers"):
        for key in keys_read(source, name) or ():
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


def _names(*, response: bool, parts: tuple[str, ...], body: bool) -> tuple[str, ...]:
    responses = RESPONSE_NAMES if response else ()
    bodies = BODY_NAMES if body else ()
    return (*REQUEST_NAMES, *responses, *bodies, *parts)


@lru_cache(maxsize=256)
def _environment(
    response: bool,  # noqa: FBT001 - a cache key
    parts: tuple[str, ...],
    body: bool,  # noqa: FBT001 - as above
    *,
    paying: bool = False,
) -> Any:
    """Return where expressions are compiled; `paying` for those that are metered, which is slower.

    The runtime makes everything that can be called anew for each expression.
    """
    variables = dict(REQUEST_NAMES)
    if response:
        variables |= RESPONSE_NAMES
    if body:
        variables |= BODY_NAMES
    variables |= dict.fromkeys(parts, _TYPES.DYN)
    called = functions() if paying else []
    return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()], functions=called)


def _single_query(request: Request, names: tuple[str, ...] | None) -> dict[str, str]:
    queries = request.queries
    for name in queries if names is None else names:
        if len(queries.get(name, ())) > 1:
            raise MalformedRequest(f"the query parameter {name} was sent more than once")
    return {name: values[0] for name, values in queries.items()}
