"""The whole configuration: as one static bootstrap, or as files that are replaced one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)

from extproc.core.chain import BodyMode
from extproc.envoy_config.clusters import nowhere_cluster, service_cluster, upstream_clusters
from extproc.envoy_config.guarding import guarded
from extproc.envoy_config.listener import egress_listener, public_listeners
from extproc.envoy_config.routes import egress_routes, ingress_routes
from extproc.envoy_config.shapes import (
    EGRESS,
    INGRESS,
    Facts,
    Json,
    address,
    from_file,
    packed,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.config.schema import Gateway
    from extproc.core.chain import Modes

_MOST_CONNECTIONS = 50_000
_BODY_LIMIT_TYPE = (
    "type.googleapis.com/envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"
)


@dataclass(frozen=True, slots=True)
class Files:
    """The replaceable parts, each a DiscoveryResponse as JSON.

    Attributes:
        clusters: every upstream's.
        listeners: the public ones.
        routes: of the public listener.
        egress: routes of the egress listener.
    """

    clusters: Json
    listeners: Json
    routes: Json
    egress: Json


def files(
    gateway: Gateway,
    modes: Mapping[str, Modes],
    facts: Facts,
    version: str,
    published: str = "",
) -> Files:
    """Compile the replaceable parts of one version of the gateway file.

    Args:
        gateway: the validated gateway file.
        modes: what each route needs to see, by its name.
        facts: where things are.
        version: of the gateway file.
        published: the keys of identity assertions; empty for none.
    """
    listeners = [
        _limited(plain(listener), gateway.listener.max_request_bytes)
        for listener in public_listeners(gateway, facts, None, interim=not buffering(modes))
    ]
    return Files(
        clusters=_discovery(
            version, Cluster, [plain(c) for c in upstream_clusters(gateway.upstreams, facts)]
        ),
        listeners=_discovery(version, Listener, listeners),
        routes=_discovery(
            version, RouteConfiguration, [ingress_routes(gateway, modes, version, published)]
        ),
        egress=_discovery(version, RouteConfiguration, [egress_routes(gateway)]),
    )


def buffering(modes: Mapping[str, Modes]) -> list[str]:
    """Return the routes that need a request's whole body before the upstream gets any of it."""
    return [name for name, one in modes.items() if one.request_body is BodyMode.BUFFERED]


def bootstrap(facts: Facts) -> Json:
    """Return the bootstrap that reads everything else from `facts.folder`."""
    result = _bootstrap(facts)
    result.dynamic_resources = BootstrapDynamicResources(
        cds_config=from_file(f"{facts.folder}/clusters.json"),
        lds_config=from_file(f"{facts.folder}/listeners.json"),
    )
    result.static_resources = BootstrapStaticResources(
        clusters=[service_cluster(facts), nowhere_cluster()],
        listeners=[egress_listener(facts, None)],
    )
    return plain(result)


def static(
    gateway: Gateway,
    modes: Mapping[str, Modes],
    facts: Facts,
    version: str,
    published: str = "",
) -> Json:
    """Return a whole bootstrap with everything in it, for an Envoy that someone else runs."""
    result = _bootstrap(facts)
    unwritten = RouteConfiguration(name=INGRESS)
    result.static_resources = BootstrapStaticResources(
        clusters=[
            service_cluster(facts),
            nowhere_cluster(),
            *upstream_clusters(gateway.upstreams, facts),
        ],
        listeners=[
            *public_listeners(gateway, facts, unwritten, interim=not buffering(modes)),
            egress_listener(facts, RouteConfiguration(name=EGRESS)),
        ],
    )
    whole = plain(result)
    routes = {
        INGRESS: ingress_routes(gateway, modes, version, published),
        EGRESS: egress_routes(gateway),
    }
    for listener in whole["static_resources"]["listeners"]:
        if listener["name"] != EGRESS:
            _limited(listener, gateway.listener.max_request_bytes)
        if listener["name"] in routes:
            for chain in listener["filter_chains"]:
                manager = chain["filters"][0]["typed_config"]
                manager["route_config"] = routes[listener["name"]]
    return whole


def _bootstrap(facts: Facts) -> Bootstrap:
    return Bootstrap(
        node=Node(id="extproc", cluster="extproc"),
        admin=Admin(address=address(facts.admin)),
        overload_manager=OverloadManager(
            resource_monitors=[
                ResourceMonitor(
                    name="envoy.resource_monitors.global_downstream_max_connections",
                    typed_config=packed(
                        DownstreamConnectionsConfig(
                            max_active_downstream_connections=_MOST_CONNECTIONS
                        )
                    ),
                )
            ]
        ),
    )


def _limited(listener: Json, max_request_bytes: int) -> Json:
    """Put the body size limit first; the typed packages don't have this filter yet."""
    limit = {
        "name": "envoy.filters.http.body_size_limit",
        "typed_config": {"@type": _BODY_LIMIT_TYPE, "max_request_bytes": max_request_bytes},
    }
    for chain in listener["filter_chains"]:
        for network_filter in chain["filters"]:
            network_filter["typed_config"]["http_filters"].insert(0, limit)
    return listener


def _discovery(version: str, kind: type, resources: list[Json]) -> Json:
    type_url = packed(kind()).type_url
    return {
        "version_info": version,
        "resources": [{"@type": type_url, **resource} for resource in resources],
    }


def part_of(bootstrap: Json, part: str) -> Any:
    """Return one part of a static bootstrap, to be put into a configuration by hand.

    Args:
        bootstrap: what `static` returned.
        part: filters, routes, clusters or egress.
    """
    resources = bootstrap["static_resources"]
    if part == "clusters":
        return resources["clusters"]
    listeners = {listener["name"]: listener for listener in resources["listeners"]}
    if part == "egress":
        return listeners["egress"]
    manager = listeners["ingress"]["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["http_filters"] if part == "filters" else guarded(manager["route_config"])
