"""What a test expects against what became of its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.offline.verdict import ENVOY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from extproc.config.schema.policy_tests import Expected, ExpectedUpstream
    from extproc.offline.verdict import Upstream, Verdict

_FIELDS = (
    *("decision", "status", "rule", "reason", "route", "consumer"),
    *("subject", "authenticator", "by", "path"),
)
# What Envoy's own answers tell, and what those of the service and what it lets through tell.
_OF_ENVOY = ("decision", "by", "reason")
_OF_THE_SERVICE = (*_OF_ENVOY, "rule", "route", "consumer", "subject", "path", "host")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that isn't as expected.

    Attributes:
        what: for example `status` or `upstream header x-user`.
        expected: as written.
        got: as it came.
    """

    what: str
    expected: str
    got: str


def differences(expected: Expected, verdict: Verdict) -> list[Difference]:
    """Return everything that isn't as a test expects."""
    found = []
    for name in _FIELDS:
        wanted, got = getattr(expected, name), getattr(verdict, name)
        if wanted is not None and wanted != got:
            found.append(Difference(name, _shown(wanted), _shown(got)))
    if expected.upstream is not None:
        found += _upstream(expected.upstream, verdict.upstream)
    return found


def _upstream(expected: ExpectedUpstream, got: Upstream | None) -> Iterator[Difference]:
    if got is None:
        yield Difference("upstream", expected.name or "a request", "none was sent")
        return
    for name, wanted, sent in (
        ("upstream", expected.name, got.name),
        ("upstream target", expected.target, got.target),
    ):
        if wanted is not None and wanted != sent:
            yield Difference(name, wanted, sent)
    yield from _headers(expected.headers, got.headers)


def _headers(wanted: Mapping[str, str | None], sent: Mapping[str, str]) -> Iterator[Difference]:
    for name, value in wanted.items():
        if sent.get(name) != value:
            yield Difference(f"upstream header {name}", _shown(value), _shown(sent.get(name)))


def _shown(value: object) -> str:
    if value is None:
        return "(absent)"
    return "(none)" if value == "" else str(value)


def elsewhere(offline: Verdict, live: Verdict) -> list[Difference]:
    """Return where a real Envoy differs from the offline verdict.

    The status of an allowed request is the upstream's, which is another one there.
    """
    names = list(_OF_ENVOY if ENVOY in {offline.by, live.by} else _OF_THE_SERVICE)
    if offline.decision != "allow":
        names.append("status")
    found = [
        Difference(f"{name} through Envoy", _shown(getattr(offline, name)), _shown(said))
        for name in names
        if getattr(offline, name) != (said := getattr(live, name))
    ]
    if offline.upstream is not None and live.upstream is not None:
        wanted, sent = offline.upstream.target, live.upstream.target
        if wanted != sent:
            found.append(Difference("upstream target through Envoy", wanted, sent))
    return found
