"""What a call is, and what its failure means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from extproc.aggregation.bodies import Body
from extproc.aggregation.failures import Unusable
from extproc.aggregation.kinds import Json, Kind
from extproc.expressions.conditions import Condition, EvaluationFailed
from extproc.expressions.projections import REQUEST, Projection, ShapeFailed
from extproc.expressions.templates import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from extproc.aggregation.joins import Items
    from extproc.core.answered import Answered
    from extproc.expressions.conditions import Context

_TOO_MANY = 429

OF_REQUEST: Mapping[str, Callable[[Context], Any]] = {
    "body": lambda context: context.body,
    "params": lambda context: context.request.params,
    "queries": lambda context: context.request.queries,
}
"""What of a request keys may come from."""

SAFE = frozenset({"GET", "HEAD"})
"""Methods whose equal calls in one exchange are made once (RFC 9110 section 9.2.1)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How one call asks for many keys.

    Attributes:
        size: keys in one call.
        by: how the answer's items are found: by their `key`, by `position`, or as a `map`.
        key: JMESPath of an item's key.
        items: JMESPath of the items in the answer; None for the answer itself.
    """

    size: int = 50
    by: str = "key"
    key: Projection | None = None
    items: Projection | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an aggregation.

    Attributes:
        part: the name of its contribution.
        upstream: where it goes.
        path: path and query; names the parts it waits for.
        method: for example `GET`.
        only_reads: it changes nothing at its upstream, although its method may.
        headers: further headers.
        body: what is sent; None for nothing.
        kind: how bodies are written and read.
        each: gives the keys, out of parts and the request; the call is made for each, or for each
            chunk of a `batch`.
        batch: how one call asks for many keys; None for a call for each key.
        when: whether it is made at all; None for always.
        required: whether the answer fails without it.
        timeout: seconds; None for no other bound than the deadline.
        default: stands in for a part that isn't required and failed.
        fallback: made where this one failed.
        stale: seconds past its lifetime for which a stored answer stands in for a failed call.
        statuses: statuses of the upstream that become the answer's.
        max_bytes: the largest answer.
        send_identity: whether the upstream is told who is calling.
        credentials: headers of the request that are forwarded.
    """

    part: str
    upstream: str
    path: Template
    method: str = "GET"
    only_reads: bool = False
    headers: tuple[tuple[str, Template], ...] = ()
    body: Body | None = None
    kind: Kind = field(default_factory=Json)
    each: Projection | None = None
    batch: Batch | None = None
    when: Condition | None = None
    required: bool = True
    timeout: float | None = None
    default: Any = None
    fallback: Call | None = None
    stale: float = 0.0
    statuses: Mapping[int, int] = field(default_factory=dict)
    max_bytes: int | None = None
    send_identity: bool = True
    credentials: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it may change something at its upstream."""
        return self.method not in SAFE and not self.only_reads

    @property
    def may_change(self) -> bool:
        """Whether it, or what is made in its place, may change something at its upstream."""
        return self.changes or (self.fallback is not None and self.fallback.may_change)

    @property
    def keys_of_client(self) -> bool:
        """Say whether keys come from the request alone, so that too many are the client's."""
        return self.each is not None and self.each.fields == {REQUEST}

    def keys(self, context: Context, lookup: Callable[[str], Items]) -> Any:
        """Return what holds the keys, out of the parts and of what is read of the request.

        Args:
            context: what there is; the call has an `each`.
            lookup: gives the items of a part by their keys.

        Raises:
            Unusable: a part, or what the client sent, has another shape.
        """
        each, sought_in = self.each, context.parts or {}
        if each is None:
            return None
        if each.of_request:
            sent = {name: OF_REQUEST[name](context) for name in each.of_request}
            sought_in = {**sought_in, REQUEST: sent}
        try:
            return each.of(sought_in, lookup)
        except ShapeFailed as error:
            raise Unusable("shape", unfit=self.keys_of_client) from error

    def is_wanted(self, context: Context) -> bool:
        """Say whether it is made at all; an error is not true."""
        try:
            return self.when is None or self.when.holds(context)
        except EvaluationFailed:
            return False

    def is_read(self, answer: Answered) -> bool:
        """Say whether an answer is a status of the upstream's, or is read as what it must be."""
        try:
            self.kind.read(answer)
        except Unusable as failure:
            return failure.reason == "status" and failure.status != _TOO_MANY
        return True

    def ends_like(self, other: Call) -> bool:
        """Say whether an equal request ends in the same way for both, whatever comes."""
        mine = (self.timeout, self.max_bytes, self.stale)
        return mine == (other.timeout, other.max_bytes, other.stale)

    def names(self) -> Iterator[str]:
        """Yield every name that the call reads; some are parts."""
        yield from self.path.names
        for _, template in self.headers:
            yield from template.names
        if self.body is not None:
            yield from self.body.names
        if self.each is not None:
            yield from self.each.fields - {REQUEST}
            yield from [f"{REQUEST}.{name}" for name in self.each.of_request]
        if self.when is not None:
            yield from self.when.expression.names
        if self.fallback is not None:
            yield from self.fallback.names()
