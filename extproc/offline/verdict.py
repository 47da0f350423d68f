"""What became of a request: the same words offline and through a real Envoy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extproc.core.facts import Facts

if TYPE_CHECKING:
    from extproc.core.records import Record
    from extproc.offline.raw import Rejected
    from extproc.offline.routing import NotMatched

ENVOY = "envoy"
_OK = 200
_SERVER_ERROR = 500
_STATUS_REASONS = {404: "no_route", 405: "method_not_allowed"}


@dataclass(frozen=True, slots=True)
class Upstream:
    """What an upstream would get.

    Attributes:
        name: of the upstream.
        target: path and query.
        headers: names and joined values.
    """

    name: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one request.

    Attributes:
        decision: allow, deny or error.
        status: of the answer; 200 for an allowed request, whose upstream is not asked.
        by: the plugin that answered, `envoy`, or empty for the upstream.
        reason: of a denial or error, as in the decision record.
        rule: that decided.
        route: that matched; empty for none.
        host: as plugins saw it.
        path: as plugins saw it.
        consumer: the class of client.
        subject: of the principal.
        authenticator: that accepted it.
        upstream: what the upstream would get, where the request is let through to one.
    """

    decision: str
    status: int
    by: str = ""
    reason: str = ""
    rule: str = ""
    route: str = ""
    host: str = ""
    path: str = ""
    consumer: str = ""
    subject: str = ""
    authenticator: str = ""
    upstream: Upstream | None = field(default=None, compare=False)


def of_envoy(status: int, reason: str, host: str = "", path: str = "") -> Verdict:
    """Return the verdict on a request that Envoy answers itself."""
    if status < 400:  # noqa: PLR2004 - RFC 9110 section 15.5
        return Verdict("allow", status, ENVOY, host=host, path=path)
    decision = "error" if status >= _SERVER_ERROR else "deny"
    return Verdict(decision, status, ENVOY, reason, host=host, path=path)


def of_rejected(rejected: Rejected) -> Verdict:
    """Return the verdict on a request that never got as far as a route."""
    return of_envoy(rejected.status, rejected.reason)


def of_unmatched(found: NotMatched, host: str, path: str) -> Verdict:
    """Return the verdict on a request that no route takes."""
    reason = _STATUS_REASONS.get(found.status, "malformed")
    return of_envoy(found.status, reason, host, path)


def of_record(record: Record, upstream: Upstream | None) -> Verdict:
    """Return the verdict on a request that the service judged."""
    request = record.request
    facts = request.noted or Facts()
    denied = record.decision != "allow"
    return Verdict(
        record.decision,
        record.status if record.status is not None else _OK,
        record.by,
        (facts.reason or record.reason) if denied else "",
        facts.rule,
        request.route,
        request.host,
        request.path,
        request.consumer,
        request.principal.subject,
        request.principal.authenticator,
        upstream,
    )
