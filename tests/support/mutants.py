"""Envoy configurations with a guard taken out: another one is left alone, or shown to be needed."""

from __future__ import annotations

import copy
from typing import Any

_EXT_PROC = "envoy.filters.http.ext_proc"
_RBAC = "envoy.filters.http.rbac"


def _manager(config: Any) -> Any:
    for listener in config["static_resources"]["listeners"]:
        if listener["name"] == "ingress":
            return listener["filter_chains"][0]["filters"][0]["typed_config"]
    raise AssertionError("no ingress listener")


def without_verdict_filter(config: Any) -> Any:
    """Take the RBAC filter out."""
    mutant = copy.deepcopy(config)
    manager = _manager(mutant)
    manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != _RBAC]
    for host in manager["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route.get("typed_per_filter_config", {}).pop(_RBAC, None)
    return mutant


def failing_open(config: Any) -> Any:
    """Take the RBAC filter out and let requests through when the service fails."""
    mutant = without_verdict_filter(config)
    for http_filter in _manager(mutant)["http_filters"]:
        if http_filter["name"] == _EXT_PROC:
            http_filter["typed_config"]["failure_mode_allow"] = True
    return mutant


def without_health(config: Any) -> Any:
    """Take out what Envoy learns of workers that are gone, so that retries are all there is."""
    mutant = copy.deepcopy(config)
    for cluster in mutant["static_resources"]["clusters"]:
        if cluster["name"] == "extproc":
            cluster.pop("health_checks")
            cluster.pop("outlier_detection")
    return mutant
