"""The names that expressions may read, with their types, and where they are compiled."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from extproc.expressions import nulls
from extproc.expressions.metered import functions

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


def declared(*, response: bool, parts: tuple[str, ...], body: bool) -> tuple[str, ...]:
    """Return every name that an expression may read.

    Args:
        response: whether it is evaluated where there is one.
        parts: further names, of any type.
        body: whether it may read the request's.
    """
    responses = RESPONSE_NAMES if response else ()
    bodies = BODY_NAMES if body else ()
    return (*REQUEST_NAMES, *responses, *bodies, *parts)


@lru_cache(maxsize=256)
def environment(
    response: bool,  # noqa: FBT001 - a cache key
    parts: tuple[str, ...],
    body: bool,  # noqa: FBT001 - as above
    *,
    paying: bool = False,
) -> Any:
    """Return where expressions are compiled; `paying` for those that are metered, which is slower.

    The runtime makes everything that can be called anew for each expression.
    """
    nulls.hold()
    variables = dict(REQUEST_NAMES)
    if response:
        variables |= RESPONSE_NAMES
    if body:
        variables |= BODY_NAMES
    variables |= dict.fromkeys(parts, _TYPES.DYN)
    called = functions() if paying else []
    made = cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()], functions=called)
    # Until it has compiled something it takes no moment for the value of a name.
    made.compile("true")
    return made
