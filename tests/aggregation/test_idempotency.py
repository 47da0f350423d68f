"""The keys under which upstreams know calls that change something."""

from __future__ import annotations

import pytest

from extproc.aggregation.calls import Call
from extproc.aggregation.idempotency import key_of
from extproc.expressions.templates import template


def put(part: str, path: str, upstream: str = "u") -> Call:
    """Return a call that changes something."""
    return Call(part, upstream, template(path), method="PUT")


@pytest.mark.parametrize(
    ("path", "apart"),
    [
        ("/carts/7", True),
        ("/carts/{request.params.other}", True),
        ("/carts/a{request.params.other}", True),
        ("/{request.params.other}/7?x=1", True),
        ("/carts", False),
        ("/carts/7/items", False),
        ("/orders/7", False),
    ],
)
def test_calls_that_may_go_to_one_place(path: str, *, apart: bool) -> None:
    """Two changes at one place have two keys: by one, the second is taken for a retry."""
    one, other = put("one", "/carts/{request.params.id}"), put("other", path)
    keys = [key_of("k", [one, other], call, None) for call in (one, other)]
    assert keys == (["k-one", "k-other"] if apart else ["k", "k"])


def test_another_upstream_is_another_place() -> None:
    """Each gets the client's own key."""
    one, other = put("one", "/carts/7"), put("other", "/carts/7", "v")
    assert key_of("k", [one, other], one, None) == key_of("k", [one, other], other, None) == "k"
