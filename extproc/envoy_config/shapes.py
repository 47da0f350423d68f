"""The few shapes of Envoy's configuration that every resource is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    ConfigSource,
    DataSource,
    PathConfigSource,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any as AnyMessage

from extproc.core.addresses import host_of

SERVICE_CLUSTER = "extproc"
NOWHERE_CLUSTER = "extproc.nowhere"
"""Has no endpoint: where a request would go that the service answers, should it let it through."""
HOLE = "\0"
"""Stands for a text that is a route's own, in what many routes have in common."""
IDLE = 300.0
"""Seconds without a byte after which Envoy ends a stream, unless its upstream may take longer."""
INGRESS = "ingress"
EGRESS = "egress"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceTls:
    """How Envoy knows the service, and the service Envoy; each is the path of a PEM file.

    Attributes:
        authority: whose certificates the service may show, for the name or address it is asked at.
        certificate: what Envoy shows; empty for nothing.
        private_key: of that certificate.
    """

    authority: str
    certificate: str = ""
    private_key: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the compiler must know beside the gateway file.

    Attributes:
        service: where the service listens, each `unix:/path` or `host:port`.
        egress: where the egress listener listens: `unix:/path` or `host:port`.
        admin: where Envoy's admin interface listens.
        folder: where listeners, clusters and routes are kept as files that are replaced; empty
            for a whole static bootstrap.
        roots: file with the certificates that https upstreams are verified against.
        tls: how the service is asked over TLS; None for plain connections.
    """

    service: tuple[str, ...]
    egress: str
    admin: str
    folder: str
    roots: str = "/etc/ssl/certs/ca-certificates.crt"
    tls: ServiceTls | None = None


def seconds(value: float) -> timedelta:
    """Return a Duration."""
    return timedelta(seconds=value)


def packed(message: Any) -> AnyMessage:
    """Return a typed config."""
    return AnyMessage.pack(message)


def plain(message: Any) -> Json:
    """Return a message as JSON values, by its fields' own names.

    JSON usually has them in camel case, which Envoy reads as well; but what the typed package
    makes of `enforcing_consecutive_5xx` isn't what protobuf makes of it.
    """
    result: Json = message.to_dict(casing=str)
    return result


def filled(value: Any, text: str) -> Any:
    """Return a copy of JSON values with a text in place of every `HOLE`."""
    if isinstance(value, dict):
        return {name: filled(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, text) for one in value]
    return text if value == HOLE else value


def address(text: str) -> Address:
    """Return an Address of `unix:/path`, `host:port` or `[ip]:port`."""
    if text.startswith("unix:"):
        return Address(pipe=Pipe(path=text.removeprefix("unix:"), mode=0o600))
    port = int(text.rpartition(":")[2])
    return Address(socket_address=SocketAddress(address=host_of(text), port_value=port))


def from_file(path: str) -> ConfigSource:
    """Return the source of resources that are replaced by atomic rename."""
    return ConfigSource(
        path_config_source=PathConfigSource(path=path), resource_api_version=ApiVersion.V3
    )


def file(path: str) -> DataSource:
    """Return a file that Envoy reads."""
    return DataSource(filename=path)


def exactly(text: str) -> StringMatcher:
    """Return a matcher of one text."""
    return StringMatcher(exact=text)


def matching(expression: str) -> RegexMatcher:
    """Return a matcher of a whole text by RE2."""
    return RegexMatcher(regex=expression)


def without(name: StringMatcher) -> HeaderMutation:
    """Return a change that takes off every header whose name matches."""
    return HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=name))


@dataclass(frozen=True, slots=True)
class EndpointUrl:
    """An upstream's endpoint, cut."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> EndpointUrl:
        """Cut a URL that was validated when the gateway file was loaded."""
        parts = urlsplit(url)
        default = 443 if parts.scheme in {"https", "grpcs"} else 80
        return cls(parts.scheme, parts.hostname or "", parts.port or default)

    @property
    def secure(self) -> bool:
        """Say whether it speaks TLS."""
        return self.scheme in {"https", "grpcs"}
