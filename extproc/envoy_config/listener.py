"""Listeners: the public one, its redirect from HTTP, and the egress one; and their filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import (
    CidrRange,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    SchemeHeaderTransformation,
    TrafficDirection,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerConnectionBalanceConfig,
    ListenerConnectionBalanceConfigExactBalance,
    ListenerFilter,
)
from envoy_data_plane.envoy.config.rbac.v3 import Rbac
from envoy_data_plane.envoy.config.route.v3 import (
    RedirectAction,
    RedirectActionRedirectResponseCode,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.compression.brotli.compressor.v3 import Brotli
from envoy_data_plane.envoy.extensions.compression.gzip.compressor.v3 import Gzip
from envoy_data_plane.envoy.extensions.compression.zstd.compressor.v3 import Zstd
from envoy_data_plane.envoy.extensions.filters.http.compressor.v3 import (
    Compressor,
    CompressorCommonDirectionConfig,
    CompressorResponseDirectionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExternalProcessorRouteCacheAction,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from extproc.core.verdict import (
    CERTIFICATE_ATTRIBUTES,
    CONTROL_HEADERS,
    MESSAGE_TIMEOUT,
    MOST_TIMEOUT,
    NAMESPACE,
    REQUEST_ATTRIBUTES,
    RESPONSE_ATTRIBUTES,
)
from extproc.envoy_config.local_replies import local_replies, marked
from extproc.envoy_config.matching import names_methods
from extproc.envoy_config.routes import EXT_PROC, MUTATION, RBAC
from extproc.envoy_config.shapes import (
    EGRESS,
    IDLE,
    INGRESS,
    SERVICE_CLUSTER,
    Facts,
    address,
    file,
    from_file,
    packed,
    seconds,
    without,
)
from extproc.envoy_config.unjudged import access_logs

if TYPE_CHECKING:
    from extproc.config.schema import Gateway
    from extproc.config.schema import Listener as PublicListener

_HCM = "envoy.filters.network.http_connection_manager"
_EARLY_MUTATION = "envoy.http.early_header_mutation.header_mutation"
_COMPRESSORS: dict[str, Any] = {"br": Brotli, "gzip": Gzip, "zstd": Zstd}
_LIBRARIES = {"br": "brotli", "gzip": "gzip", "zstd": "zstd"}
_EGRESS_STREAMS = 1000  # on one connection; the service opens another one before
_BUFFER = 64 << 10  # of a connection; routes that see bodies whole raise it


def public_listeners(
    gateway: Gateway,
    facts: Facts,
    routes: RouteConfiguration | None,
    *,
    interim: bool = False,
) -> list[Listener]:
    """Return the public listener, and the one that redirects to it if there is one.

    Args:
        gateway: the validated gateway file.
        facts: where things are.
        routes: inline, for a static bootstrap; None to read them from a file.
        interim: interim responses (1xx) of upstreams are passed on.
    """
    listener = gateway.listener
    manager = _manager(gateway, listener, facts, routes)
    # Envoy leaves `Expect: 100-continue` to the upstream then, and a request whose body is
    # buffered before the upstream sees it would wait for ever.
    manager.proxy_100_continue = interim
    result = Listener(
        name=INGRESS,
        traffic_direction=TrafficDirection.INBOUND,
        address=address(listener.address),
        per_connection_buffer_limit_bytes=_BUFFER,
        filter_chains=_chains(listener, manager),
    )
    if listener.tls is not None:
        result.listener_filters = [
            ListenerFilter(
                name="envoy.filters.listener.tls_inspector", typed_config=packed(TlsInspector())
            )
        ]
    if listener.redirect is None:
        return [result]
    return [result, _redirect(listener.redirect, listener.address)]


def _chains(listener: PublicListener, manager: HttpConnectionManager) -> list[FilterChain]:
    filters = [Filter(name=_HCM, typed_config=packed(manager))]
    tls = listener.tls
    if tls is None:
        return [FilterChain(name="plain", filters=filters)]
    ca = str(tls.client_ca) if tls.client_ca else None
    chains = [
        FilterChain(
            name=f"sni-{place}",
            filter_chain_match=FilterChainMatch(server_names=list(named.hosts)),
            filters=filters,
            transport_socket=_tls(str(named.certificate), str(named.private_key), ca),
        )
        for place, named in enumerate(tls.sni)
    ]
    chains.append(
        FilterChain(
            name="default",
            filters=filters,
            transport_socket=_tls(str(tls.certificate), str(tls.private_key), ca),
        )
    )
    return chains


def _tls(certificate: str, private_key: str, client_ca: str | None) -> TransportSocket:
    common = CommonTlsContext(
        alpn_protocols=["h2", "http/1.1"],
        tls_certificates=[
            TlsCertificate(certificate_chain=file(certificate), private_key=file(private_key))
        ],
    )
    context = DownstreamTlsContext(common_tls_context=common)
    if client_ca is not None:
        common.validation_context = CertificateValidationContext(trusted_ca=file(client_ca))
        # Asked for, not demanded: authentication says which routes need one. Envoy warns of a
        # context that doesn't say.
        context.require_client_certificate = False
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _redirect(at: str, target: str) -> Listener:
    """Return a listener that sends HTTP clients to HTTPS, keeping method and body (308)."""
    action = RedirectAction(
        https_redirect=True,
        port_redirect=int(target.rpartition(":")[2]),
        response_code=RedirectActionRedirectResponseCode.PERMANENT_REDIRECT,
    )
    manager = HttpConnectionManager(
        stat_prefix="redirect",
        strip_any_host_port=True,
        route_config=RouteConfiguration(
            name="redirect",
            virtual_hosts=[
                VirtualHost(
                    name="all",
                    domains=["*"],
                    routes=[EnvoyRoute(match=RouteMatch(prefix=""), redirect=action)],
                )
            ],
        ),
        http_filters=[_router()],
    )
    _harden(manager)
    return Listener(
        name="redirect",
        traffic_direction=TrafficDirection.INBOUND,
        address=address(at),
        filter_chains=[FilterChain(filters=[Filter(name=_HCM, typed_config=packed(manager))])],
    )


def _manager(
    gateway: Gateway,
    listener: PublicListener,
    facts: Facts,
    routes: RouteConfiguration | None,
) -> HttpConnectionManager:
    manager = HttpConnectionManager(
        stat_prefix=INGRESS,
        use_remote_address=True,
        xff_num_trusted_hops=listener.trusted_proxies,
        strip_any_host_port=True,
        strip_trailing_host_dot=True,
        always_set_request_id_in_response=True,
        # The upstream's `server` passes and a route may remove it; Envoy's own would come after.
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        early_header_mutation_extensions=[_strip(gateway.identity_headers)],
        local_reply_config=local_replies(),
        access_log=access_logs(),
        http_filters=[
            *(_compressor(name) for name in listener.compression),
            # What it takes off comes with the routes, which connections from before take as well.
            HttpFilter(name=MUTATION, typed_config=packed(HeaderMutationFilter())),
            HttpFilter(name=EXT_PROC, typed_config=packed(_processor(_asked(gateway)))),
            # Accepts nothing by itself: each route accepts its own verdict.
            HttpFilter(name=RBAC, typed_config=packed(RbacFilter(rules=Rbac()))),
            _router(),
        ],
    )
    # Filters of its own, which are the same but for the limit of a request's body: what follows
    # a switch of protocols is no body, and a connection that lasts would end at it.
    manager.upgrade_configs = [
        HttpConnectionManagerUpgradeConfig(
            upgrade_type="websocket", enabled=False, filters=list(manager.http_filters)
        )
    ]
    _harden(manager, custom_methods=names_methods(gateway.routes))
    if not listener.trusted_proxies:  # over HTTP/2 clients say what they like; those proxies may
        manager.scheme_header_transformation = SchemeHeaderTransformation(
            scheme_to_overwrite="http" if listener.tls is None else "https"
        )
    if routes is not None:
        manager.route_config = routes
    else:
        manager.rds = Rds(
            route_config_name=INGRESS, config_source=from_file(f"{facts.folder}/routes.json")
        )
    return manager


def _harden(manager: HttpConnectionManager, *, custom_methods: bool = False) -> None:
    """Set what an edge needs (Envoy's "configuring as an edge proxy").

    Methods that its parser of HTTP/1.1 doesn't know are work in progress there.
    """
    manager.normalize_path = True
    manager.merge_slashes = True
    manager.path_with_escaped_slashes_action = (
        HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST
    )
    manager.common_http_protocol_options = HttpProtocolOptions(
        idle_timeout=seconds(IDLE),
        headers_with_underscores_action=(
            HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST
        ),
    )
    manager.http_protocol_options = Http1ProtocolOptions(
        accept_http_10=False, allow_custom_methods=custom_methods
    )
    manager.http2_protocol_options = Http2ProtocolOptions(
        max_concurrent_streams=100,
        initial_stream_window_size=65_536,
        initial_connection_window_size=1 << 20,
    )
    manager.stream_idle_timeout = seconds(IDLE)
    manager.request_headers_timeout = seconds(10)


def _strip(identity: list[str]) -> TypedExtensionConfig:
    """Return a mutation that runs before routing and before any filter.

    Names by which upstreams are told who is calling go, so that no route is chosen by them, and
    so does what only Envoys tell each other. Other spellings of those names are the routes' part.
    """
    mutations = [Mutation(remove=name) for name in sorted({*CONTROL_HEADERS, *identity})]
    mutations.append(without(StringMatcher(prefix="x-envoy-")))
    mutation = HeaderMutation(mutations=mutations)
    return TypedExtensionConfig(name=_EARLY_MUTATION, typed_config=packed(mutation))


def _compressor(name: str) -> HttpFilter:
    """Return a compressor; it stands before ext_proc, so that our answers pass it too."""
    library = _LIBRARIES[name]
    return HttpFilter(
        name=f"envoy.filters.http.compressor.{library}",
        typed_config=packed(
            Compressor(
                compressor_library=TypedExtensionConfig(
                    name=f"envoy.compression.{library}.compressor",
                    typed_config=packed(_COMPRESSORS[name]()),
                ),
                response_direction_config=CompressorResponseDirectionConfig(
                    common_config=CompressorCommonDirectionConfig(min_content_length=256),
                    weaken_etag_on_compress=True,
                    # Ranges are of what would be sent whole (RFC 9110 section 14.4).
                    uncompressible_response_codes=[206],
                ),
            )
        ),
    )


def _asked(gateway: Gateway) -> tuple[str, ...]:
    """Return what Envoy tells of a request beside its headers; as little as will do.

    Of certificates also where nobody reads them yet: connections from before take later routes.
    """
    tls = gateway.listener.tls
    asks = tls is not None and tls.client_ca is not None
    if asks or any(model.reads_certificates for model in gateway.authentication.values()):
        return REQUEST_ATTRIBUTES + CERTIFICATE_ATTRIBUTES
    return REQUEST_ATTRIBUTES


def _processor(asked: tuple[str, ...]) -> ExternalProcessor:
    """Return the ext_proc filter: off by itself, each route switches on what it needs."""
    skip, none = ProcessingModeHeaderSendMode.SKIP, ProcessingModeBodySendMode.NONE
    return ExternalProcessor(
        # The headers Envoy would add to each call are about itself; the service reads none.
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SERVICE_CLUSTER, skip_envoy_headers=True)
        ),
        failure_mode_allow=False,
        allow_mode_override=True,
        processing_mode=ProcessingMode(
            request_header_mode=skip,
            response_header_mode=skip,
            request_body_mode=none,
            response_body_mode=none,
            request_trailer_mode=skip,
            response_trailer_mode=skip,
        ),
        request_attributes=list(asked),
        response_attributes=list(RESPONSE_ATTRIBUTES),
        message_timeout=seconds(MESSAGE_TIMEOUT),
        max_message_timeout=seconds(MOST_TIMEOUT),
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE])
        ),
        route_cache_action=ExternalProcessorRouteCacheAction.RETAIN,
        mutation_rules=HeaderMutationRules(),
        status_on_error=HttpStatus(code=StatusCode(503)),
    )


def _router(*, suppress: bool = True) -> HttpFilter:
    router = Router(suppress_envoy_headers=suppress)
    return HttpFilter(name="envoy.filters.http.router", typed_config=packed(router))


def egress_listener(facts: Facts, routes: RouteConfiguration | None) -> Listener:
    """Return the listener for the service's own calls; only the service reaches its socket.

    So what it says in `x-envoy-upstream-rq-timeout-ms` counts, and the upstream is told how long
    is left in `x-envoy-expected-rq-timeout-ms`.
    """
    manager = HttpConnectionManager(
        stat_prefix=EGRESS,
        generate_request_id=False,
        use_remote_address=True,
        skip_xff_append=True,
        internal_address_config=HttpConnectionManagerInternalAddressConfig(
            unix_sockets=True, cidr_ranges=[CidrRange(address_prefix="127.0.0.0", prefix_len=8)]
        ),
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=_EGRESS_STREAMS,
            initial_stream_window_size=1 << 20,
            initial_connection_window_size=16 << 20,
        ),
        http_filters=[_router(suppress=False)],
        local_reply_config=marked(),
    )
    if routes is not None:
        manager.route_config = routes
    else:
        manager.rds = Rds(
            route_config_name=EGRESS, config_source=from_file(f"{facts.folder}/egress.json")
        )
    return Listener(
        name=EGRESS,
        address=address(facts.egress),
        # A few connections carry all calls: each of Envoy's threads shall have its share.
        connection_balance_config=ListenerConnectionBalanceConfig(
            exact_balance=ListenerConnectionBalanceConfigExactBalance()
        ),
        filter_chains=[FilterChain(filters=[Filter(name=_HCM, typed_config=packed(manager))])],
    )
