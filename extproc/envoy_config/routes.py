"""Route configuration: for each route its match, its processing mode and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
)
from envoy_data_plane.envoy.config.rbac.v3 import (
    MetadataSource,
    Permission,
    Policy,
    Principal,
    Rbac,
    SourcedMetadata,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RetryPolicy,
    RouteAction,
    RouteActionUpgradeConfig,
    RouteConfiguration,
    RouteMatch,
    RouteMatchConnectMatcher,
    VirtualHost,
)
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExtProcOverrides,
    ExtProcPerRoute,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    ValueMatcher,
)
from envoy_data_plane.google.protobuf import Struct, Value

from extproc.core.addresses import is_address
from extproc.core.chain import BodyMode, Modes
from extproc.core.verdict import NAMESPACE, UPSTREAM_HEADER, WITH_HOST
from extproc.envoy_config.clusters import upstream_cluster
from extproc.envoy_config.matching import (
    IDEMPOTENT,
    Refused,
    any_path,
    hosts,
    in_order,
    methods_of,
    no_method,
    other_methods,
    refused_methods,
    route_match,
    serves,
    wider_paths,
    with_header,
)
from extproc.envoy_config.shapes import (
    EGRESS,
    INGRESS,
    NOWHERE_CLUSTER,
    EndpointUrl,
    exactly,
    packed,
    plain,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envoy_data_plane.google.protobuf import Any as AnyMessage

    from extproc.config.schema import Gateway, Route, Upstream

PUBLISHED_AT = "/.well-known/gateway-jwks.json"
EXT_PROC = "envoy.filters.http.ext_proc"
RBAC = "envoy.filters.http.rbac"

_NOTHING_REACHED_IT = "connect-failure,refused-stream"
_TRY_ANOTHER = f"{_NOTHING_REACHED_IT},reset,gateway-error"
_BODY_MODES = {
    BodyMode.NONE: ProcessingModeBodySendMode.NONE,
    # The service asks for it by `mode_override`, after Envoy has kept the content length.
    BodyMode.WATCHED: ProcessingModeBodySendMode.NONE,
    BodyMode.BUFFERED: ProcessingModeBodySendMode.BUFFERED,
    BodyMode.STREAMED: ProcessingModeBodySendMode.STREAMED,
}


def ingress_routes(
    gateway: Gateway, modes: Mapping[str, Modes], version: str, published: str = ""
) -> dict[str, Any]:
    """Return the routes of the public listener, as JSON.

    Envoy wants a route in each virtual host that it belongs to: of a thousand routes and a dozen
    hosts nearly all are repetitions. What stands in several is made and written down once.

    Args:
        gateway: the validated gateway file.
        modes: what each route needs to see, by its name.
        version: of the gateway file; part of each route's key.
        published: the keys of identity assertions; empty for none.
    """
    first = [plain(_keys(published))] if published else []
    entries = {
        route.name: [
            plain(entry)
            for entry in _entries(gateway, route, modes[route.name], f"{route.name}@{version}")
        ]
        for route in gateway.routes
    }
    refusals: dict[Refused, dict[str, Any]] = {}
    unwritten = plain(_answer(no_method(), 400))
    # No other match takes CONNECT (RFC 9110 section 9.3.6), which names a host and no path.
    nowhere = [
        plain(_answer(match, 404))
        for match in (RouteMatch(prefix=""), RouteMatch(connect_matcher=RouteMatchConnectMatcher()))
    ]
    ordered, wider = in_order(gateway.routes), wider_paths(gateway.routes)
    virtual_hosts = []
    for host in hosts(gateway.routes):
        routes = [route for route in ordered if serves(route, host)]
        refused = [one for one in refused_methods(routes, wider) if one.allow]
        for one in refused:
            if one not in refusals:
                refusals[one] = plain(_method_refused(one))
        taken = [entry for route in routes for entry in entries[route.name]]
        others = [refusals[one] for one in refused]
        whole = [*first, *taken, unwritten, *others, *nowhere]
        virtual_hosts.append(plain(VirtualHost(name=host, domains=[host])) | {"routes": whole})
    # A path parameter (`;x=1`) stays part of the path, for Envoy as for the service.
    result = RouteConfiguration(name=INGRESS, ignore_path_parameters_in_path_matching=False)
    return plain(result) | {"virtual_hosts": virtual_hosts}


def _entries(gateway: Gateway, route: Route, modes: Modes, key: str) -> Iterator[EnvoyRoute]:
    """Yield Envoy's routes for one of ours; retries differ by whether a method is idempotent."""
    methods = methods_of(route.match)
    upstream = gateway.upstreams[route.upstream] if route.upstream is not None else None
    if upstream is None or upstream.retries == 0 or methods is None:
        yield _entry(gateway, route, modes, key, methods, _NOTHING_REACHED_IT)
        return
    safe = [method for method in methods if method in IDEMPOTENT]
    unsafe = [method for method in methods if method not in IDEMPOTENT]
    if safe:
        yield _entry(gateway, route, modes, key, safe, _TRY_ANOTHER)
    if unsafe:
        yield _entry(gateway, route, modes, key, unsafe, _NOTHING_REACHED_IT)


def _entry(
    gateway: Gateway,
    route: Route,
    modes: Modes,
    key: str,
    methods: Sequence[str] | None,
    retry_on: str,
) -> EnvoyRoute:
    entry = EnvoyRoute(
        name=route.name,
        match=route_match(route.match, methods),
        metadata=Metadata(
            filter_metadata={NAMESPACE: Struct(fields={"id": Value(string_value=key)})}
        ),
        typed_per_filter_config={EXT_PROC: _processing(modes), RBAC: _accept_only(key)},
        request_headers_to_remove=gateway.credential_headers(route),
    )
    limit = _buffer_limit(gateway, modes)
    if limit:
        entry.request_body_buffer_limit = limit
    if route.upstream is None and limit:
        # As below; but only a route to a cluster may buffer more than the listener.
        entry.route = RouteAction(cluster=NOWHERE_CLUSTER, timeout=seconds(0))
    elif route.upstream is None:
        # The service answers; should it let the request through, there is nowhere to go.
        entry.direct_response = DirectResponseAction(status=503)
    else:
        entry.route = _action(gateway, route, retry_on)
    return entry


def _processing(modes: Modes) -> AnyMessage:
    """Return all six modes: a route's processing mode replaces the filter's as a whole."""
    send, skip = ProcessingModeHeaderSendMode.SEND, ProcessingModeHeaderSendMode.SKIP
    return packed(
        ExtProcPerRoute(
            overrides=ExtProcOverrides(
                processing_mode=ProcessingMode(
                    request_header_mode=send,
                    response_header_mode=send if modes.response_headers else skip,
                    request_body_mode=_BODY_MODES[modes.request_body],
                    response_body_mode=_BODY_MODES[modes.response_body],
                    request_trailer_mode=skip,
                    response_trailer_mode=skip,
                )
            )
        )
    )


def _accept_only(key: str) -> AnyMessage:
    """Return the rule that lets through only what carries this route's verdict."""
    verdict = MetadataMatcher(
        filter=NAMESPACE,
        path=[MetadataMatcherPathSegment(key="verdict")],
        value=ValueMatcher(string_match=exactly(key)),
    )
    policy = Policy(
        permissions=[Permission(any=True)],
        principals=[
            Principal(
                sourced_metadata=SourcedMetadata(
                    metadata_matcher=verdict, metadata_source=MetadataSource.DYNAMIC
                )
            )
        ],
    )
    return packed(RbacPerRoute(rbac=RbacFilter(rules=Rbac(policies={"verdict": policy}))))


def _buffer_limit(gateway: Gateway, modes: Modes) -> int:
    """Return how much Envoy may buffer; the smaller listener's limit would answer 413 or 500."""
    listener = gateway.listener
    request = listener.max_request_bytes if modes.request_body is BodyMode.BUFFERED else 0
    response = listener.max_response_bytes if modes.response_body is BodyMode.BUFFERED else 0
    return max(request, response)


def _action(gateway: Gateway, route: Route, retry_on: str) -> RouteAction:
    name = route.upstream or ""
    action = _forward(name, gateway.upstreams[name], retry_on)
    action.append_x_forwarded_host = True
    if route.upgrade:
        action.upgrade_configs = [
            RouteActionUpgradeConfig(upgrade_type=kind, enabled=True) for kind in route.upgrade
        ]
        action.timeout = seconds(0)
    return action


def _forward(name: str, upstream: Upstream, retry_on: str) -> RouteAction:
    action = RouteAction(
        cluster=upstream_cluster(name),
        timeout=seconds(upstream.timeout),
    )
    if _named(upstream):
        action.auto_host_rewrite = True
    if upstream.retries:
        action.retry_policy = RetryPolicy(retry_on=retry_on, num_retries=upstream.retries)
    return action


def _named(upstream: Upstream) -> bool:
    """Say whether endpoints are names: such an upstream expects its own name as Host."""
    return not all(is_address(EndpointUrl.parse(str(url)).host) for url in upstream.endpoints)


def _keys(published: str) -> EnvoyRoute:
    """Return the route of the public keys; Envoy answers, also while the service is down."""
    entry = _answer(RouteMatch(path=PUBLISHED_AT), 200)
    assert entry.direct_response is not None  # noqa: S101 - it was made one line above
    entry.direct_response.body = DataSource(inline_string=published)
    entry.response_headers_to_add = [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in (
            ("content-type", "application/jwk-set+json"),
            ("cache-control", "public, max-age=60"),
        )
    ]
    return entry


def _method_refused(refused: Refused) -> EnvoyRoute:
    entry = _answer(other_methods(refused.path, refused.allow), 405)
    entry.response_headers_to_add = [
        HeaderValueOption(header=HeaderValue(key="allow", value=", ".join(refused.allow)))
    ]
    return entry


def _answer(match: RouteMatch, status: int) -> EnvoyRoute:
    """Return a route that Envoy answers; nothing lies behind it, so it needs no verdict."""
    return EnvoyRoute(
        match=match,
        direct_response=DirectResponseAction(status=status),
        typed_per_filter_config={RBAC: packed(RbacPerRoute())},
    )


def egress_routes(gateway: Gateway) -> RouteConfiguration:
    """Return the routes of the service's own calls: a header names the upstream.

    The Host can't: a call in place of a client's request goes with the Host that the client
    asked for, as that request would have.
    """
    routes = [
        entry
        for name, upstream in gateway.upstreams.items()
        for with_host in (False, True)
        for entry in _egress(name, upstream, with_host=with_host)
    ]
    return RouteConfiguration(
        name=EGRESS,
        virtual_hosts=[
            VirtualHost(
                name="upstreams",
                domains=["*"],
                request_headers_to_remove=["x-envoy-internal"],
                response_headers_to_remove=["x-envoy-upstream-service-time"],
                routes=routes,
            )
        ],
    )


def _egress(name: str, upstream: Upstream, *, with_host: bool) -> Iterator[EnvoyRoute]:
    place = name + WITH_HOST if with_host else name
    for match, retry_on in (
        (any_path(sorted(IDEMPOTENT)), _TRY_ANOTHER),
        (RouteMatch(prefix="/"), _NOTHING_REACHED_IT),
    ):
        action = _forward(name, upstream, retry_on)
        action.append_x_forwarded_host = with_host
        yield EnvoyRoute(
            match=with_header(match, UPSTREAM_HEADER, place),
            route=action,
            request_headers_to_remove=[UPSTREAM_HEADER],
        )
