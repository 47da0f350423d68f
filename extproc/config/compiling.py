"""Expressions of a gateway file, compiled; what is wrong with one is noted with its place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from extproc.config.errors import Trouble
from extproc.config.source import Key, written_key
from extproc.core.near import near
from extproc.core.routes import PathPattern
from extproc.expressions.conditions import Condition, Expression, NotAnExpression, condition
from extproc.expressions.projections import Projection
from extproc.expressions.templates import Template, template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from extproc.config.load import Loaded

_T = TypeVar("_T")
_PARAMETERS = "request.params"


class Compiler:
    """Compiles expressions of one file; collects troubles."""

    def __init__(self, loaded: Loaded, troubles: list[Trouble]) -> None:
        self._loaded = loaded
        self._gateway = loaded.gateway
        self._troubles = troubles

    def _condition(
        self, source: str, key: Key, *, body: bool = False, parts: tuple[str, ...] = ()
    ) -> Condition:
        made = self._compiled(
            lambda: condition(source, body=body, parts=parts), key, lambda: condition("false")
        )
        self._parameters_exist([made.expression], key)
        return made

    def _template(
        self,
        source: str,
        key: Key,
        *,
        response: bool = False,
        parts: tuple[str, ...] = (),
        body: bool = False,
    ) -> Template:
        made = self._compiled(
            lambda: template(source, response=response, parts=parts, body=body),
            key,
            lambda: template(""),
        )
        self._parameters_exist([p for p in made.pieces if isinstance(p, Expression)], key)
        return made

    def _templates(
        self,
        sources: Mapping[str, str],
        key: Key,
        *,
        response: bool = False,
        parts: tuple[str, ...] = (),
        body: bool = False,
    ) -> tuple[tuple[str, Template], ...]:
        return tuple(
            (name, self._template(source, (*key, name), response=response, parts=parts, body=body))
            for name, source in sources.items()
        )

    def _projection(self, source: str, key: Key) -> Projection:
        return self._compiled(lambda: Projection(source), key, lambda: Projection("@"))

    def _parameters_exist(self, expressions: Iterable[Expression], key: Key) -> None:
        """Refuse what a route reads of its path that isn't there: it would fail each request.

        Policies and consumers aren't one route's; they may read what only some paths have.
        """
        place = key[1] if key[:1] == ("routes",) else None
        if not isinstance(place, int):
            return
        pattern = PathPattern.parse(self._gateway.routes[place].match.path)
        there = [segment[1:-1] for segment in pattern.segments if segment.startswith("{")]
        for expression in expressions:
            for name in expression.reads.demanded(_PARAMETERS):
                if name not in there:
                    problem = f"reads {_PARAMETERS}.{name}, and {pattern.text} has no {{{name}}}"
                    self._trouble(key, problem, near(name, sorted(there)))

    def _compiled(self, compile_it: Callable[[], _T], key: Key, instead: Callable[[], _T]) -> _T:
        """Compile; on an error note where, and go on with something harmless."""
        try:
            return compile_it()
        except NotAnExpression as error:
            at = self._loaded.positions.of_value(key)
            inside = replace(at, line=at.line + error.line - 1, column=at.column + error.column)
            self._troubles.append(Trouble(inside, written_key(key), *self._said(error)))
            return instead()

    def _said(self, error: NotAnExpression) -> tuple[str, str]:
        """Return what is wrong with an expression, and what would be right."""
        return error.problem, error.expected

    def _trouble(self, key: Key, problem: str, expected: str = "") -> None:
        self._troubles.append(self._loaded.trouble(key, problem, expected))
