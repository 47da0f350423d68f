"""Where a real Envoy says something else than we do, a test fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.offline.comparing import elsewhere
from extproc.offline.verdict import Upstream, Verdict, of_envoy

ALLOWED = Verdict(
    "allow",
    200,
    route="order",
    host="shop",
    path="/orders/7",
    subject="alice",
    upstream=Upstream("orders", "/v2/orders/7", {}),
)
DENIED = Verdict("deny", 403, "authorize", "denied", "rule", "order", "shop", "/orders/7")


def test_the_same_is_the_same() -> None:
    """An allowed request's status is the upstream's, which is another one there."""
    assert not elsewhere(ALLOWED, ALLOWED)
    assert not elsewhere(ALLOWED, replace(ALLOWED, status=502))
    assert not elsewhere(of_envoy(404, "no_route", "shop", "/x"), of_envoy(404, "no_route"))


@pytest.mark.parametrize(
    ("offline", "live", "what"),
    [
        (ALLOWED, replace(ALLOWED, path="/orders/8"), "path"),
        (ALLOWED, replace(ALLOWED, host="other"), "host"),
        (ALLOWED, replace(ALLOWED, route="home"), "route"),
        (ALLOWED, replace(ALLOWED, subject=""), "subject"),
        (ALLOWED, replace(ALLOWED, upstream=Upstream("", "/orders/7", {})), "upstream target"),
        (DENIED, replace(DENIED, status=401), "status"),
        (DENIED, replace(DENIED, reason="other"), "reason"),
        (DENIED, replace(DENIED, rule="other"), "rule"),
        (of_envoy(400, "malformed"), of_envoy(404, "no_route"), "reason"),
        (of_envoy(400, "malformed"), of_envoy(431, "malformed"), "status"),
    ],
)
def test_a_difference_is_told(offline: Verdict, live: Verdict, what: str) -> None:
    """By its name, with both values."""
    assert f"{what} through Envoy" in [difference.what for difference in elsewhere(offline, live)]


def test_a_request_that_envoy_refuses_and_we_allow() -> None:
    """Or the reverse: the decision itself differs."""
    for one, other in ((ALLOWED, of_envoy(400, "malformed")), (of_envoy(400, "malformed"), DENIED)):
        whats = [difference.what for difference in elsewhere(one, other)]
        assert "by through Envoy" in whats
