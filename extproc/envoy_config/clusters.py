"""Clusters: the service itself, and one for each upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    HealthCheckHttpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.route.v3 import RetryPolicy, RetryPolicyRetryHostPredicate
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CertificateValidationContextTrustChainVerification,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import Percent

from extproc.core.addresses import host_of, is_address
from extproc.envoy_config.shapes import (
    NOWHERE_CLUSTER,
    SERVICE_CLUSTER,
    EndpointUrl,
    Facts,
    address,
    exactly,
    file,
    matching,
    packed,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envoy_data_plane.google.protobuf import Any as AnyMessage

    from extproc.config.schema import Upstream
    from extproc.envoy_config.shapes import ServiceTls

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POLICIES = {
    "round_robin": ClusterLbPolicy.ROUND_ROBIN,
    "least_request": ClusterLbPolicy.LEAST_REQUEST,
    "random": ClusterLbPolicy.RANDOM,
}
# Envoy's default of 1024 counts open streams, and each request holds one: beyond it requests
# fail by `overflow`. What bounds load is the listener's connection limit.
_MANY = 1_000_000


def upstream_cluster(name: str) -> str:
    """Return the cluster's name of an upstream; a prefix keeps it apart from our own."""
    return f"upstream.{name}"


def service_cluster(facts: Facts) -> Cluster:
    """Return the cluster of the service: one endpoint for each worker.

    A stuck worker still accepts connections, so health is asked over gRPC.
    """
    hosts = [host_of(at) for at in facts.service if not at.startswith("unix:")]
    return Cluster(
        name=SERVICE_CLUSTER,
        type=_discovery(hosts),
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=seconds(0.25),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        load_assignment=_assignment(SERVICE_CLUSTER, [address(at) for at in facts.service]),
        typed_extension_protocol_options=_protocol(http2=True, retries=_on_another_worker()),
        circuit_breakers=_open_breakers(),
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0.0)),
        # A worker that died is left out at once, and back as soon as it is healthy.
        outlier_detection=_connection_failures(1, 0.1) if len(facts.service) > 1 else None,
        health_checks=[
            HealthCheck(
                timeout=seconds(0.5),
                interval=seconds(0.5),
                no_traffic_interval=seconds(0.5),
                unhealthy_interval=seconds(0.25),
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=HealthCheckGrpcHealthCheck(),
            )
        ],
        transport_socket=_service_tls(facts.tls, hosts) if facts.tls is not None else None,
    )


def nowhere_cluster() -> Cluster:
    """Return the cluster without endpoints: 503 for whoever is sent there."""
    return Cluster(
        name=NOWHERE_CLUSTER,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(0.25),
        load_assignment=_assignment(NOWHERE_CLUSTER, []),
    )


def upstream_clusters(upstreams: Mapping[str, Upstream], facts: Facts) -> list[Cluster]:
    """Return a cluster for each upstream, in the file's order."""
    return [_upstream(name, upstream, facts) for name, upstream in upstreams.items()]


def _upstream(name: str, upstream: Upstream, facts: Facts) -> Cluster:
    urls = [EndpointUrl.parse(str(url)) for url in upstream.endpoints]
    cluster = Cluster(
        name=upstream_cluster(name),
        type=_discovery([url.host for url in urls]),
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=seconds(2.0),
        lb_policy=_POLICIES[upstream.balance],
        load_assignment=_assignment(
            upstream_cluster(name), [_endpoint_address(url) for url in urls], urls
        ),
        typed_extension_protocol_options=_protocol(
            http2=upstream.speaks_grpc, of_clients=upstream.speaks_grpc
        ),
        circuit_breakers=_open_breakers(),
        outlier_detection=_connection_failures(5, 1.0) if len(urls) > 1 else None,
    )
    if upstream.health is not None:
        cluster.health_checks = [_http_health(upstream.health, urls[0].host)]
    if urls[0].secure:
        cluster.transport_socket = _tls(upstream, urls[0].host, facts.roots)
    return cluster


def _discovery(hosts: list[str]) -> ClusterDiscoveryType:
    """Return how endpoints are found: names are resolved again and again."""
    known = all(map(is_address, hosts))
    return ClusterDiscoveryType.STATIC if known else ClusterDiscoveryType.STRICT_DNS


def _assignment(
    name: str, addresses: list[Address], urls: list[EndpointUrl] | None = None
) -> ClusterLoadAssignment:
    hostnames = [url.host for url in urls] if urls else [""] * len(addresses)
    endpoints = [
        LbEndpoint(endpoint=Endpoint(address=at, hostname=hostname))
        for at, hostname in zip(addresses, hostnames, strict=True)
    ]
    return ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)]
    )


def _endpoint_address(url: EndpointUrl) -> Address:
    return address(f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}")


def _on_another_worker() -> RetryPolicy:
    """Retry on another worker what no worker has begun to judge; hooks may act, once.

    Here and not with the gRPC service: Envoy reads that one anew for each exchange, and uses it
    for streams of configuration alone.
    """
    return RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=3,
        # A dead worker has the fewest requests, so it would be picked again.
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=5,
    )


def _protocol(
    *, http2: bool, retries: RetryPolicy | None = None, of_clients: bool = False
) -> dict[str, AnyMessage]:
    """Return a cluster's protocol; `of_clients` where its HTTP/2 carries what clients send."""
    if http2:
        explicit = HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions()
        )
    else:
        explicit = HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=Http1ProtocolOptions()
        )
    options = HttpProtocolOptions(explicit_http_config=explicit, retry_policy=retries)
    if of_clients:
        options.http_filters = [_without_trailers(), _codec()]
    return {_HTTP_OPTIONS: packed(options)}


def _without_trailers() -> HttpFilter:
    """Return what drops a request's trailers, which nobody judges and some take for headers.

    HTTP/1.1 has none here, and gRPC knows them in responses alone.
    """
    anything = StringMatcher(safe_regex=matching(".*"))
    mutation = HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=anything))
    mutations = Mutations(request_trailers_mutations=[mutation])
    return HttpFilter(
        name="envoy.filters.http.header_mutation",
        typed_config=packed(HeaderMutationFilter(mutations=mutations)),
    )


def _codec() -> HttpFilter:
    """Return the filter that ends an upstream's filters."""
    return HttpFilter(
        name="envoy.filters.http.upstream_codec", typed_config=packed(UpstreamCodec())
    )


def _open_breakers() -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=_MANY,
                max_pending_requests=_MANY,
                max_requests=_MANY,
                max_retries=_MANY,
            )
        ]
    )


def _connection_failures(in_a_row: int, interval: float) -> OutlierDetection:
    """Eject endpoints that can't be reached; one that answers 5xx may be right to."""
    return OutlierDetection(
        split_external_local_origin_errors=True,
        enforcing_consecutive_5xx=0,
        enforcing_success_rate=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_local_origin_success_rate=0,
        consecutive_local_origin_failure=in_a_row,
        interval=seconds(interval),
        base_ejection_time=seconds(5.0),
        max_ejection_percent=50,
    )


def _http_health(path: str, host: str) -> HealthCheck:
    return HealthCheck(
        timeout=seconds(1.0),
        interval=seconds(5.0),
        no_traffic_interval=seconds(5.0),
        unhealthy_threshold=2,
        healthy_threshold=1,
        http_health_check=HealthCheckHttpHealthCheck(path=path, host=host),
    )


def _tls(upstream: Upstream, host: str, roots: str) -> TransportSocket:
    """Verify name and chain unless the file says otherwise out loud."""
    tls = upstream.tls
    name = (tls.sni if tls is not None else None) or host
    validation = CertificateValidationContext(
        trusted_ca=file(str(tls.ca) if tls is not None and tls.ca else roots),
        match_typed_subject_alt_names=[_named(name)],
    )
    if tls is not None and not tls.verify:
        validation = CertificateValidationContext(
            trust_chain_verification=CertificateValidationContextTrustChainVerification(
                1  # ACCEPT_UNTRUSTED
            )
        )
    context = UpstreamTlsContext(
        sni="" if is_address(name) else name,
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2" if upstream.speaks_grpc else "http/1.1"],
            validation_context=validation,
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _named(name: str) -> SubjectAltNameMatcher:
    """Return what a certificate must say of whom it is for."""
    kind = SubjectAltNameMatcherSanType
    return SubjectAltNameMatcher(
        san_type=kind.IP_ADDRESS if is_address(name) else kind.DNS, matcher=exactly(name)
    )


def _service_tls(tls: ServiceTls, hosts: list[str]) -> TransportSocket:
    """Verify that the service is at one of the hosts it is asked at, and show who asks."""
    common = CommonTlsContext(
        alpn_protocols=["h2"],
        validation_context=CertificateValidationContext(
            trusted_ca=file(tls.authority),
            match_typed_subject_alt_names=[_named(host) for host in dict.fromkeys(hosts)],
        ),
    )
    if tls.certificate:
        common.tls_certificates = [
            TlsCertificate(
                certificate_chain=file(tls.certificate), private_key=file(tls.private_key)
            )
        ]
    sni = next((host for host in hosts if not is_address(host)), "")
    context = UpstreamTlsContext(sni=sni, common_tls_context=common)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))
