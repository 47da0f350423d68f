"""Expressions over one name `b` of any kind, as CEL has them and as they are evaluated here."""

from __future__ import annotations

from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from extproc.core.values import Request
from extproc.expressions.bounded import Bounded, bounded
from extproc.expressions.conditions import Context, compile_expression
from extproc.expressions.metered import functions
from extproc.expressions.rewriting import Tree

_NAMES = {"b": cel.Type.DYN}
ENVIRONMENT = cel.NewEnv(variables=_NAMES, extensions=[ext_strings.ExtStrings()])
_PAYING = cel.NewEnv(variables=_NAMES, extensions=[ext_strings.ExtStrings()], functions=functions())


def with_bounds(plain: Any) -> Bounded:
    """Return an expression of `ENVIRONMENT` with its bounds."""
    return bounded(ENVIRONMENT, Tree(plain), paying=lambda: _PAYING)


def value(source: str, b: Any) -> Any:
    """Return what an expression gives."""
    return compile_expression(source, parts=("b",)).value(Context(Request(), parts={"b": b}))
