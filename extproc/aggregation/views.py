"""Which shape a client gets: a view by header, query or consumer, and of it the fields it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extproc.core.values import MalformedRequest
from extproc.expressions.projections import Wanted

if TYPE_CHECKING:
    from extproc.core.values import Request

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_-]{0,63}){0,7}\Z")
_MOST = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """How a request says which view it wants.

    Attributes:
        consumers: the view of each consumer that has one.
        header: a header that names a view; empty for none.
        query: a query parameter that names a view; empty for none.
        fields: a query parameter that names members of the answer; empty for none.
    """

    consumers: Mapping[str, str]
    header: str = ""
    query: str = ""
    fields: str = ""

    def view(self, request: Request) -> str:
        """Return a view's name; it may be one that doesn't exist.

        Raises:
            MalformedRequest: the query can't be decoded.
        """
        if self.query:
            named = request.queries.get(self.query)
            if named:
                return named[0]
        if self.header:
            value = request.headers.get(self.header)
            if value is not None:
                return value
        return self.consumers.get(request.consumer, "")

    def wanted(self, request: Request) -> tuple[str, ...]:
        """Return the fields that a request names, in one order; empty for all.

        Raises:
            MalformedRequest: they aren't names.
        """
        if not self.fields:
            return ()
        values = request.queries.get(self.fields, ())
        names = {name for value in values for name in value.split(",") if name}
        if len(names) > _MOST or not all(map(_FIELD.match, names)):
            raise MalformedRequest(f"the parameter {self.fields} doesn't name fields")
        return tuple(sorted(names))


def wanted_of(fields: tuple[str, ...]) -> Wanted:
    """Return dotted names as a tree; a name alone wants everything below it."""
    tree = Wanted()
    whole: list[Wanted] = []
    for field in fields:
        place = tree
        for name in field.split("."):
            place = place.setdefault(name, Wanted())
        whole.append(place)
    for place in whole:
        place.clear()
    return tree


def kept(value: Any, wanted: Wanted) -> Any:
    """Return a value with the wanted members alone; lists are looked through."""
    if not wanted:
        return value
    if isinstance(value, dict):
        return {name: kept(value[name], wanted[name]) for name in wanted if name in value}
    if isinstance(value, list):
        return [kept(item, wanted) for item in value]
    return value
