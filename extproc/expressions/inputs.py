"""The values that expressions read, for the decision record: what they name, no more.

A map is recorded by the keys that are written out in an expression. What can't be told from the
source (a whole map, a computed key), a credential's place, and a value too long for a record are
not recorded; who judges the record again then knows that something is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.expressions.conditions import reading
from extproc.expressions.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from extproc.expressions.conditions import Context, Expression

# Places of credentials, whatever is configured.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
SECRET_PARAMETERS = frozenset({"access_token", "api_key", "apikey", "id_token", "password"})
# They hold a whole target, and so the parameters of this request or of the page before it.
_WITH_QUERIES = frozenset({"referer", "x-original-uri", "x-original-url", "x-rewrite-url"})
MAPS = ("request.headers", "request.query", "request.params", "request.queries", "principal.claims")
# A consumer follows from the others; a body may be large and hold anything.
_NOT_RECORDED = frozenset({"consumer", "request.body"})
_LONGEST = 512


class Inputs:
    """Collects what some expressions read.

    Attributes:
        names: all of them.

    Args:
        expressions: all that may be evaluated for the record.
        secret_headers: further header names that are never recorded.
        secret_parameters: further parameters of the query that are never recorded.
    """

    def __init__(
        self,
        expressions: Iterable[Expression],
        secret_headers: frozenset[str] = frozenset(),
        secret_parameters: frozenset[str] = frozenset(),
    ) -> None:
        secret = {
            "request.headers": SECRET_HEADERS | _WITH_QUERIES | secret_headers,
            "request.query": SECRET_PARAMETERS | secret_parameters,
            "request.queries": SECRET_PARAMETERS | secret_parameters,
        }
        names: list[str] = []
        scalars: dict[str, Callable[[Context], Any]] = {}
        keys: dict[str, set[str]] = {}
        for expression in expressions:
            names += expression.names
            for name in expression.names:
                if name in MAPS:
                    named = expression.reads.keys(name) or ()
                    hidden = secret.get(name, frozenset())
                    kept = [key for key in named if hidden.isdisjoint({key, key.lower()})]
                    keys.setdefault(name, set()).update(kept)
                elif name not in _NOT_RECORDED:
                    scalars[name] = reading(name)
        self._scalars = tuple(scalars.items())
        self._maps = tuple((name, reading(name), tuple(sorted(keys[name]))) for name in keys)
        self.names = tuple(dict.fromkeys(names))
        self._memory: Memory[tuple[dict[str, Any], tuple[str, ...]]] = Memory(names)

    def of(self, context: Context) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the values by name, and the names that have none; nobody may change them."""
        if not self._memory.applies:
            return self._collected(context)
        known = self._memory.get(context.request)
        if known is not None:
            return known
        return self._memory.put(context.request, self._collected(context))

    def _collected(self, context: Context) -> tuple[dict[str, Any], tuple[str, ...]]:
        values: dict[str, Any] = {}
        absent = []
        consumer = context.request.principal.consumer
        if consumer:  # no condition says it again
            values["principal.consumer"] = consumer
        for name, read in self._scalars:
            _keep(values, name, read(context))
        for name, read, keys in self._maps:
            sent = read(context)
            for key in keys:
                if key in sent:
                    _keep(values, f"{name}.{key}", sent[key])
                else:
                    absent.append(f"{name}.{key}")
        return values, tuple(absent)


def _keep(values: dict[str, Any], name: str, value: Any) -> None:
    if len(str(value)) <= _LONGEST:
        values[name] = value
