"""One call's request, and what the upstream is told of who is calling."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from extproc.aggregation import idempotency
from extproc.aggregation.failures import OF_CLIENT, Unusable
from extproc.expressions.templates import NoValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.aggregation.bodies import Body
    from extproc.aggregation.calls import Call
    from extproc.aggregation.kinds import Kind
    from extproc.core.ports import Names
    from extproc.core.values import Request
    from extproc.expressions.conditions import Context
    from extproc.expressions.templates import Template

DEPTH = "x-gateway-depth"
"""How many aggregations stand behind one another: one that calls itself ends."""

# Headers of the request that go along with each call: to find it again, and for its language.
_REQUEST_ID = "x-request-id"
_CARRIED = ("traceparent", "tracestate", "accept-language")

Pairs = tuple[tuple[str, str], ...]


class Outgoing:
    """What one call sends.

    Attributes:
        method: for example `GET`.
        target: path and query.
        headers: in order.
        body: bytes; empty for none.
        identity: all that the upstream is told of who is calling, as one text.
    """

    __slots__ = ("body", "headers", "identity", "method", "target")

    def __init__(
        self, method: str, target: str, headers: Pairs, body: bytes, identity: str
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.identity = identity

    def says_the_same(self, other: Outgoing) -> bool:
        """Say whether another one sends the same, and tells the same of who is calling."""
        return (
            self.method == other.method
            and self.target == other.target
            and self.headers == other.headers
            and self.body == other.body
            and self.identity == other.identity
        )

    @property
    def size(self) -> int:
        """Return how much is the call's own; what all calls tell alike is kept once."""
        return len(self.target) + len(self.identity) + len(self.body)


class Telling:
    """What the upstreams of one exchange are told of it; worked out once.

    Args:
        request: what came.
        identity: headers that tell upstreams who is calling.
        assertion: makes the signed assertion for an upstream.
        depth: how many aggregations stand before this one.
        about: gives the names by which the answer may be purged; None for none.
        max_age: as for `CachedCaller.call`.

    Attributes:
        about: the same.
        max_age: the same.
    """

    def __init__(
        self,
        request: Request,
        identity: tuple[tuple[str, Template], ...],
        assertion: Callable[[Request, str, float], tuple[str, str]] | None,
        depth: int,
        about: Callable[[], Names] | None = None,
        max_age: float = inf,
    ) -> None:
        self.about = about
        self.max_age = max_age
        self._request = request
        self._depth = depth
        self._identity = identity
        self._assertion = assertion
        headers = request.headers
        names = (_REQUEST_ID, *_CARRIED) if headers.has_any(_CARRIED) else (_REQUEST_ID,)
        carried = [(name, value) for name in names if (value := headers.get(name)) is not None]
        self._carried = (*carried, (DEPTH, str(depth + 1)))
        self._told: tuple[Pairs, str] | None = None
        self._known: dict[object, tuple[Pairs, str]] = {}

    @property
    def idempotency(self) -> str | None:
        """Return the client's Idempotency-Key."""
        return self._request.headers.get(idempotency.HEADER)

    def outgoing(self, call: Call, context: Context, key: str | None = None) -> Outgoing:
        """Return one call's request; a header that the call names takes the place of the usual.

        Args:
            call: which.
            context: what its templates are filled in from.
            key: under which the upstream knows the call; None for none.

        Raises:
            NoValue: the path or the body has a hole without a value.
            Unusable: the body's value doesn't fit its kind.
        """
        headers, identity = self._same_for_many(call, context)
        body = b""
        if call.body is not None:
            headers = (*headers, *call.kind.sends_with_body)
            body = _written(call.kind, call.body, context)
        if key is not None:
            headers = (*headers, (idempotency.HEADER, key))
        if call.headers:
            own = filled(call.headers, context)
            names = {name for name, _ in own}
            headers = (*[pair for pair in headers if pair[0] not in names], *own)
            identity = "\n".join([identity, *[f"{name}:{value}" for name, value in own]])
        return Outgoing(call.method, call.path.target(context), headers, body, identity)

    def _same_for_many(self, call: Call, context: Context) -> tuple[Pairs, str]:
        """Return what depends on the upstream and not on the parts; worked out once."""
        place = (call.kind.sends, call.upstream if call.credentials else "", call.send_identity)
        if self._assertion is not None:
            place = (call.kind.sends, call.upstream, call.send_identity)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = self._told_to(call, context)
        return known

    def _told_to(self, call: Call, context: Context) -> tuple[Pairs, str]:
        headers = [*call.kind.sends, *self._carried]
        # One that calls itself must not wait for its own answer, as for an equal call's.
        told = [f"{DEPTH}:{self._depth}"] if self._depth else []
        if call.send_identity and (self._identity or self._assertion is not None):
            pairs, text = self._who(context)
            headers += pairs
            told.append(text)
            if self._assertion is not None:
                headers.append(self._assertion(self._request, call.upstream, context.now))
        for name in call.credentials:
            value = self._request.headers.received(name)
            if value:
                headers.append((name, value))
                told.append(f"{name}:{value}")
        return tuple(headers), "\n".join(told)

    def _who(self, context: Context) -> tuple[Pairs, str]:
        """Return the identity headers, and as one text whom they and the assertion name."""
        if self._told is None:
            pairs = tuple(filled(self._identity, context))
            text = "\n".join([f"{name}:{value}" for name, value in pairs])
            if self._assertion is not None:
                principal = self._request.principal
                who = (principal.authenticator, principal.kind, principal.issuer)
                named = (*who, principal.subject, *principal.scopes)
                text += f"\n{self._request.route}\n{named!r}"
            self._told = (pairs, text)
        return self._told


def _written(kind: Kind, body: Body, context: Context) -> bytes:
    """Write a body; whose fault it is that one can't be, shows without what the client chose."""
    try:
        return kind.written(body.filled(context))
    except Unusable as failure:
        if OF_CLIENT.isdisjoint(body.names):
            raise
        with suppress(Unusable):
            kind.written(body.filled(context, but=OF_CLIENT))
            failure.unfit = True
        raise


def filled(templates: tuple[tuple[str, Template], ...], context: Context) -> list[tuple[str, str]]:
    """Fill in headers; those without a value are left out."""
    headers = []
    for name, template in templates:
        try:
            headers.append((name, template.header(context)))
        except NoValue:
            continue
    return headers
