"""What can go wrong with a call, and what the client is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from extproc.aggregation.joins import OWN
from extproc.core.values import Response

if TYPE_CHECKING:
    from extproc.aggregation.calls import Call
    from extproc.expressions.templates import NoValue

# Of the main part these say that there is nothing, not that something is broken.
_OF_MAIN = frozenset({404, 410})
_TITLES = {
    400: "Bad request",
    404: "Not found",
    409: "Conflict",
    410: "Gone",
    504: "Deadline passed",
}
# Of an expression nothing else is told: what it says is the operator's.
_PLAIN_NAME = re.compile(r"request(\.[a-z_][a-z0-9_-]*)+\Z", re.IGNORECASE)
# Seconds, or a date (RFC 9110 section 10.2.3), which goes along with what says to come later.
_RETRY_AFTER = re.compile(r"\d{1,9}\Z|[A-Za-z0-9 ,:-]{24,40}GMT\Z")
_LATER = frozenset({429, 503})
_LATE = frozenset({"timeout", "deadline"})
_GATEWAY_TIMEOUT = 504
# What of a request is there or not as the client wants.
OF_CLIENT = frozenset(
    f"request.{name}" for name in ("query", "queries", "headers", "params", "body")
)


class Unusable(Exception):
    """An answer gives no part.

    Attributes:
        reason: status, not_json, not_xml, graphql, grpc, no_value, shape, too_many_calls,
            too_large, connect, protocol, timeout or deadline.
        status: of the upstream, where `reason` is status; for gRPC the status of HTTP that says
            the same.
        lacks: what the request would have to hold, where that is the reason; else empty.
        unfit: what the request holds can't be sent on.
        of_all: all calls together are too many; which one that shows at is chance.
        retry_after: the upstream's Retry-After, with `status`; empty for none.
    """

    def __init__(
        self,
        reason: str,
        status: int = 0,
        *,
        lacks: str = "",
        unfit: bool = False,
        of_all: bool = False,
        retry_after: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.lacks = lacks
        self.unfit = unfit
        self.of_all = of_all
        self.retry_after = retry_after


def without(error: NoValue, *, of_client: bool = False) -> Unusable:
    """Return the failure of a call that can't be made for want of a value.

    Args:
        error: says which.
        of_client: the call's keys come from the request.
    """
    lacks = error.source if error.names and error.names <= OF_CLIENT else ""
    own = error.names & OWN
    unfit = of_client and bool(own) and error.names <= own | OF_CLIENT
    return Unusable("no_value", lacks=lacks, unfit=unfit)


class CallFailed(Exception):
    """A required call gave no part, so there is no answer."""

    def __init__(self, call: Call, failure: Unusable) -> None:
        super().__init__(f"{call.part}: {failure.reason}")
        self.call = call
        self.failure = failure


def problem(error: CallFailed, main: str) -> Response:
    """Return what the client is told of a required call that failed.

    404 and 410 of the main part are the answer's; so is what `statuses` says. Past the deadline,
    or where the upstream's own time was over: 504. Where the request lacks what a call is made
    of, or that can't be sent: 400. Everything else is 502.
    """
    call, failure = error.call, error.failure
    if failure.lacks:
        named = failure.lacks if _PLAIN_NAME.match(failure.lacks) else "something of the request"
        return Response.malformed(f"The part {call.part} needs {named}, which isn't there.")
    if failure.unfit and failure.of_all:
        return Response.malformed("The request asks for more than is asked for at once.")
    if failure.unfit:
        return Response.malformed(
            f"The part {call.part} can't be asked for what the request holds."
        )
    part = call.part
    status = call.statuses.get(failure.status)
    if status is None and part == main and failure.status in _OF_MAIN:
        status = failure.status
    if status is not None:
        title = _TITLES.get(status, "Refused by a part")
        answer = Response.problem(
            status, title, f"The part {part} answered so.", reason="part_status"
        )
        if status in _LATER and _RETRY_AFTER.match(failure.retry_after):
            answer.headers["retry-after"] = failure.retry_after
        return answer
    if failure.reason in _LATE or failure.status == _GATEWAY_TIMEOUT:
        return Response.problem(
            504, _TITLES[504], f"The part {part} took too long.", reason="part_deadline"
        )
    return Response.problem(
        502, "Upstream failed", f"The part {part} is not available.", reason="part_failed"
    )
