"""Kinds of upstreams: what is sent to them, and what an answer of theirs says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from extproc.aggregation.failures import Unusable
from extproc.aggregation.markup import NotConvertible, converted
from extproc.expressions.projections import NotJson, ShapeFailed, parsed_of_upstream, written

if TYPE_CHECKING:
    from extproc.core.answered import Answered

_SUCCESS = range(200, 300)
_NO_CONTENT = 204


class Kind(Protocol):
    """Writes what a call sends and reads what it was answered."""

    @property
    def sends(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that go along with each call."""

    @property
    def sends_with_body(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that go along with a body."""

    def written(self, value: Any) -> bytes:
        """Write a body.

        Raises:
            Unusable: the value doesn't fit.
        """

    def read(self, answer: Answered) -> Any:
        """Return the part.

        Raises:
            Unusable: the answer gives none.
        """


class Json:
    """JSON both ways.

    Args:
        tells_nothing: a successful answer may have no body, as many of those have that say only
            that something was changed.
    """

    def __init__(self, *, tells_nothing: bool = False) -> None:
        self._tells_nothing = tells_nothing

    sends: tuple[tuple[str, str], ...] = (("accept", "application/json"),)
    sends_with_body: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def written(self, value: Any) -> bytes:
        """Write compact JSON."""
        try:
            return written(value)
        except ShapeFailed as error:
            raise Unusable("no_value") from error

    def read(self, answer: Answered) -> Any:
        """Read any JSON of a successful answer; nothing where the upstream says so."""
        succeeded(answer)
        return None if self._is_nothing(answer) else parsed_json(answer.body)

    def _is_nothing(self, answer: Answered) -> bool:
        return not answer.body and (self._tells_nothing or answer.status == _NO_CONTENT)


class Xml(Json):
    """JSON there, XML back."""

    sends: tuple[tuple[str, str], ...] = (("accept", "application/xml, text/xml"),)

    def read(self, answer: Answered) -> Any:
        """Convert the document; see `markup`."""
        succeeded(answer)
        if self._is_nothing(answer):
            return None
        try:
            return converted(answer.body)
        except NotConvertible as error:
            raise Unusable("not_xml") from error


class GraphQl(Json):
    """A query with variables; what it gives is `data`.

    An answer with `errors` is a failure, also where it has some data: which of it is whole, nobody
    says (GraphQL specification, October 2021, section 7.1).
    """

    sends: tuple[tuple[str, str], ...] = (
        ("accept", "application/graphql-response+json, application/json"),
    )

    def read(self, answer: Answered) -> Any:
        """Return `data`."""
        succeeded(answer)
        value = parsed_json(answer.body)
        if not isinstance(value, dict) or "data" not in value or value.get("errors"):
            raise Unusable("graphql")
        return value["data"]


def succeeded(answer: Answered) -> None:
    """Refuse every status but success; redirects are never followed.

    Raises:
        Unusable: it is another one.
    """
    if answer.status not in _SUCCESS:
        later = answer.headers.get("retry-after") or ""
        raise Unusable("status", answer.status, retry_after=later)


def parsed_json(body: bytes) -> Any:
    """Read JSON.

    Raises:
        Unusable: it isn't.
    """
    try:
        return parsed_of_upstream(body)
    except NotJson as error:
        raise Unusable("not_json") from error
