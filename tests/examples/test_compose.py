"""The composed shop: what its containers are told fits together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extproc.config.load import Loaded, load
from tests.support.processes import ROOT

COMPOSED = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def loaded(name: str) -> Loaded:
    """Return the gateway file as a container reads it."""
    return load(ROOT / "examples/shop/gateway.yaml", COMPOSED[name]["environment"])


def test_envoy_and_the_service_have_one_version() -> None:
    """Each route's verdict names it: with two of them nothing would be let through."""
    assert loaded("envoy").version == loaded("service").version


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_published_can_be_reached(name: str) -> None:
    """A port leads to an address that is not only a container's own."""
    gateway = loaded("service").gateway
    bound = [gateway.listener.address, gateway.admin.address]
    reachable = [one.rpartition(":")[2] for one in bound if one.startswith("0.0.0.0:")]
    ports: list[str] = COMPOSED[name].get("ports", [])
    assert {port.rpartition(":")[2] for port in ports} <= set(reachable)


def test_the_store_is_the_one_that_is_started() -> None:
    """Else it runs for nobody."""
    store = loaded("service").gateway.shared_store
    assert store is not None
    assert store.startswith("redis://redis:6379")
    waits: Any = COMPOSED["service"]["depends_on"]
    assert "redis" in waits
    assert "redis" in COMPOSED
