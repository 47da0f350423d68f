"""Fixtures that every test may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from examples.shop.processes import Shop
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator


# How long an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """Run the upstreams that tests ask: echo, issuer, catalogue, users, orders, slow ads."""
    with Shop(only=("echo", "issuer", "catalog", "users", "orders", "ads")) as running:
        yield running


@pytest.fixture
def echo(shop: Shop) -> int:
    """Return the echo upstream's port, its memory empty."""
    from tests.support.client import ask  # noqa: PLC0415 - beside its use

    ask(shop.ports["echo"], "/__reset", method="POST")
    return shop.ports["echo"]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Run a Redis, empty at first."""
    with redis_server() as running:
        yield running
