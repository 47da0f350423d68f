"""The shop: its upstreams, and the demonstration that the README shows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.client import ask
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from examples.shop.processes import Shop


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("catalog", "/products?ids=1,2", b"SKU-0001"),
        ("catalog", "/products/7/reviews", b"["),
        ("users", "/users/alice", b"birthday"),
        ("orders", "/orders?user=alice&limit=2", b"total"),
        ("orders", "/v2/orders/7", b"lines"),
        ("ads", "/ads", b"ad-1"),
        ("issuer", "/jwks.json", b"RS256"),
    ],
)
def test_upstreams_answer(shop: Shop, name: str, target: str, expected: bytes) -> None:
    """With believable data."""
    reply = ask(shop.ports[name], target)
    assert reply.status == 200
    assert expected in reply.body


def test_keys_rotate(shop: Shop) -> None:
    """The key before stays published until the next rotation."""
    first = ask(shop.ports["issuer"], "/jwks.json").json["keys"][0]["kid"]
    for kept in (True, False):
        ask(shop.ports["issuer"], "/rotate", method="POST")
        keys = [key["kid"] for key in ask(shop.ports["issuer"], "/jwks.json").json["keys"]]
        assert (first in keys) == kept


def test_the_demonstration_checks_itself() -> None:
    """`make demo CHECK=1`: every printed command, tried on free ports."""
    done = subprocess.run(
        [sys.executable, "-m", "extproc", "demo", "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 of 14 right" in done.stdout
