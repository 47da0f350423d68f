"""Route configuration: for each route its match, its processing mode and its verdict."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

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
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutationPerRoute,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.google.protobuf import Struct, Value

from extproc.core.addresses import is_address
from extproc.core.chain import BodyMode, Modes
from extproc.core.verdict import LARGEST_WHOLE, NAMESPACE, UPSTREAM_HEADER, WITH_HOST
from extproc.envoy_config.clusters import upstream_cluster
from extproc.envoy_config.covering import wider_paths
from extproc.envoy_config.matching import (
    IDEMPOTENT,
    Refused,
    conditions,
    hosts,
    in_order,
    methods_of,
    no_method,
    path_match,
    refused_methods,
    serves,
    spellings,
    with_header,
    with_method,
)
from extproc.envoy_config.shapes import (
    EGRESS,
    HOLE,
    IDLE,
    INGRESS,
    NOWHERE_CLUSTER,
    EndpointUrl,
    exactly,
    filled,
    matching,
    packed,
    plain,
    seconds,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envoy_data_plane.google.protobuf import Any as AnyMessage

    from extproc.config.schema import Gateway, Route, Upstream
    from extproc.envoy_config.shapes import Json

PUBLISHED_AT, PUBLISHED_BY = "/.well-known/gateway-jwks.json", ("GET", "HEAD")
EXT_PROC = "envoy.filters.http.ext_proc"
RBAC = "envoy.filters.http.rbac"
MUTATION = "envoy.filters.http.header_mutation"

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
) -> Json:
    """Return the routes of the public listener, as JSON.

    Envoy wants a route in each virtual host that it belongs to: of a thousand routes and a dozen
    hosts nearly all are repetitions. What stands in several is made and written down once.

    Args:
        gateway: the validated gateway file.
        modes: what each route needs to see, by its name.
        version: of the gateway file; part of each route's key.
        published: the keys of identity assertions; empty for none.
    """
    first = _keys(published) if published else []
    known = _Entries(gateway)
    entries = {
        route.name: known.of(route, modes[route.name], f"{route.name}@{version}")
        for route in gateway.routes
    }
    refusals: dict[Refused, Json] = {}
    unwritten = answered(no_method(), 400)
    # No other match takes CONNECT (RFC 9110 section 9.3.6), which names a host and no path.
    nowhere = [
        answered(plain(match), 404)
        for match in (RouteMatch(prefix=""), RouteMatch(connect_matcher=RouteMatchConnectMatcher()))
    ]
    ordered = in_order(gateway.routes)
    wider = wider_paths(route.match.path for route in gateway.routes)
    virtual_hosts = []
    for host in hosts(gateway.routes):
        routes = [route for route in ordered if serves(route, host)]
        refused = [one for one in refused_methods(routes, wider) if one.allow]
        for one in refused:
            if one not in refusals:
                refusals[one] = _method_refused(one)
        taken = [entry for route in routes for entry in entries[route.name]]
        others = [refusals[one] for one in refused]
        whole = [*first, *taken, unwritten, *others, *nowhere]
        virtual_hosts.append(plain(VirtualHost(name=host, domains=[host])) | {"routes": whole})
    # A path parameter (`;x=1`) stays part of the path, for Envoy as for the service.
    result = RouteConfiguration(name=INGRESS, ignore_path_parameters_in_path_matching=False)
    result.typed_per_filter_config = {MUTATION: _unidentified(gateway.identity_headers)}
    return plain(result) | {"virtual_hosts": virtual_hosts}


def _unidentified(identity: Sequence[str]) -> AnyMessage:
    """Return what takes off names by which upstreams are told who is calling, before any plugin.

    In every spelling that an upstream may take for them: `x.user` is `HTTP_X_USER` for some. It is
    no part of the listener, which a connection keeps while versions change.
    """
    matchers = (StringMatcher(safe_regex=matching(spellings(name))) for name in identity)
    mutations = Mutations(request_mutations=[without(matcher) for matcher in matchers])
    return packed(HeaderMutationPerRoute(mutations=mutations))


class _Entries:
    """Makes Envoy's routes of ours; what many have in common is made and written down once.

    Args:
        gateway: the validated gateway file.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._common: dict[tuple[object, ...], Json] = {}

    def of(self, route: Route, modes: Modes, key: str) -> list[Json]:
        """Return Envoy's routes for one of ours, as JSON.

        Args:
            route: which.
            modes: what it needs to see.
            key: its own, and its verdict.
        """
        match = plain(conditions(route.match))
        return [
            {
                "name": route.name,
                "match": with_method(match, methods),
                **filled(self._in_common(route, modes, retry_on), key),
            }
            for methods, retry_on in self._ways(route)
        ]

    def _ways(self, route: Route) -> Iterator[tuple[tuple[str, ...] | None, str]]:
        """Yield methods and what is retried: that differs by whether they are idempotent."""
        methods = methods_of(route.match)
        upstream = self._gateway.upstreams[route.upstream] if route.upstream is not None else None
        if upstream is None or upstream.retries == 0 or methods is None:
            yield methods, _NOTHING_REACHED_IT
            return
        safe = tuple(method for method in methods if method in IDEMPOTENT)
        unsafe = tuple(method for method in methods if method not in IDEMPOTENT)
        if safe:
            yield safe, _TRY_ANOTHER
        if unsafe:
            yield unsafe, _NOTHING_REACHED_IT

    def _in_common(self, route: Route, modes: Modes, retry_on: str) -> Json:
        removed = self._gateway.removed_headers(route)
        alike = (route.upstream, tuple(route.upgrade or ()), modes, retry_on, *removed)
        known = self._common.get(alike)
        if known is None:
            known = self._common[alike] = plain(
                _entry(self._gateway, route, modes, retry_on, removed)
            )
        return known


def _entry(
    gateway: Gateway, route: Route, modes: Modes, retry_on: str, removed: list[str]
) -> EnvoyRoute:
    """Return all of an entry but its name and match, with `HOLE` for its key."""
    entry = EnvoyRoute(
        metadata=Metadata(
            filter_metadata={NAMESPACE: Struct(fields={"id": Value(string_value=HOLE)})}
        ),
        typed_per_filter_config={EXT_PROC: _processing(modes), RBAC: _accept_only(HOLE)},
        request_headers_to_remove=removed,
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
    """Return all six modes: a route's processing mode replaces the filter's as a whole.

    Trailers are sent where a body is waited for: they may come in place of one.
    """
    send, skip = ProcessingModeHeaderSendMode.SEND, ProcessingModeHeaderSendMode.SKIP
    whole = BodyMode.BUFFERED
    return packed(
        ExtProcPerRoute(
            overrides=ExtProcOverrides(
                processing_mode=ProcessingMode(
                    request_header_mode=send,
                    response_header_mode=send if modes.response_headers else skip,
                    request_body_mode=_BODY_MODES[modes.request_body],
                    response_body_mode=_BODY_MODES[modes.response_body],
                    request_trailer_mode=send if modes.request_body is whole else skip,
                    response_trailer_mode=send if modes.response_body is whole else skip,
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
    """Return how much Envoy may buffer; the smaller listener's limit would answer 413 or 500.

    More than goes into a message it may not: that would be 503 and not 413 or 502.
    """
    listener = gateway.listener
    request = listener.max_request_bytes if modes.request_body is BodyMode.BUFFERED else 0
    response = listener.max_response_bytes if modes.response_body is BodyMode.BUFFERED else 0
    return min(max(request, response), LARGEST_WHOLE)


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
    if upstream.timeout > IDLE:  # else the listener would end what waits so long
        action.idle_timeout = seconds(upstream.timeout)
    if _named(upstream):
        action.auto_host_rewrite = True
    if upstream.retries:
        action.retry_policy = RetryPolicy(retry_on=retry_on, num_retries=upstream.retries)
    return action


def _named(upstream: Upstream) -> bool:
    """Say whether endpoints are names: such an upstream expects its own name as Host."""
    return not all(is_address(EndpointUrl.parse(str(url)).host) for url in upstream.endpoints)


def _keys(published: str) -> list[Json]:
    """Return the routes of the public keys; Envoy answers, also while the service is down."""
    entry = _answer(200)
    match = with_method(plain(RouteMatch(path=PUBLISHED_AT)), PUBLISHED_BY)
    assert entry.direct_response is not None  # noqa: S101 - it was made above
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
    return [{"match": match, **plain(entry)}, _method_refused(Refused(PUBLISHED_AT, PUBLISHED_BY))]


def _method_refused(refused: Refused) -> Json:
    match = with_method(plain(path_match(refused.path)), refused.allow, other=True)
    return {"match": match, **filled(_not_allowed(), ", ".join(refused.allow))}


@cache
def _not_allowed() -> Json:
    """Return what answers 405, with `HOLE` for the methods."""
    entry = _answer(405)
    entry.response_headers_to_add = [HeaderValueOption(header=HeaderValue(key="allow", value=HOLE))]
    return plain(entry)


def answered(match: Json, status: int) -> Json:
    """Return a route that Envoy answers, as JSON."""
    return {"match": match, **plain(_answer(status))}


def _answer(status: int) -> EnvoyRoute:
    """Return a route that Envoy answers; nothing lies behind it, so it needs no verdict."""
    return EnvoyRoute(
        direct_response=DirectResponseAction(status=status),
        typed_per_filter_config={RBAC: packed(RbacPerRoute())},
    )


def egress_routes(gateway: Gateway) -> Json:
    """Return the routes of the service's own calls, as JSON: a header names the upstream.

    The Host can't: a call in place of a client's request goes with the Host that the client
    asked for, as that request would have.
    """
    routes = [
        entry for name, upstream in gateway.upstreams.items() for entry in _egress(name, upstream)
    ]
    every = VirtualHost(
        name="upstreams",
        domains=["*"],
        request_headers_to_remove=["x-envoy-internal"],
        response_headers_to_remove=["x-envoy-upstream-service-time"],
    )
    return plain(RouteConfiguration(name=EGRESS)) | {
        "virtual_hosts": [plain(every) | {"routes": routes}]
    }


def _egress(name: str, upstream: Upstream) -> Iterator[Json]:
    action = plain(_forward(name, upstream, HOLE))
    for with_host in (False, True):
        host = {"append_x_forwarded_host": True} if with_host else {}
        for match, retry_on in _egress_ways():
            yield {
                "match": filled(match, name + WITH_HOST if with_host else name),
                "route": filled(action, retry_on) | host,
                "request_headers_to_remove": [UPSTREAM_HEADER],
            }


@cache
def _egress_ways() -> tuple[tuple[Json, str], ...]:
    """Return matches, with `HOLE` for where calls go, and what of them is tried again."""
    every = plain(with_header(RouteMatch(prefix="/"), UPSTREAM_HEADER, HOLE))
    idempotent = with_method(every, tuple(sorted(IDEMPOTENT)))
    return (idempotent, _TRY_ANOTHER), (every, _NOTHING_REACHED_IT)
