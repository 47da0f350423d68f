"""`upstreams:`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from extproc.config.schema.shapes import MOST_PORTS, File, Strict, UrlPath
from extproc.config.units import Duration, shown

_ENDPOINT = re.compile(
    r"(?:https?|grpcs?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)"
    r"(?::([0-9]{1,5}))?/?\Z"
)
_MOST_RETRIES = 10
_MOST_AT_ONCE = 10_000


def _endpoint(value: str) -> str:
    """Accept scheme://host[:port] and nothing more."""
    wanted = "expected http, https, grpc or grpcs://host[:port] without path"
    found = _ENDPOINT.match(value)
    if found is None or not 0 < int(found[2] or 1) <= MOST_PORTS or not _is_host(found[1]):
        raise ValueError(f"is {shown(value)}, {wanted}")
    return value.removesuffix("/")


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        return bool(IPv6Address(host[1:-1]))
    except ValueError:
        return False


class UpstreamTls(Strict):
    """How an https or grpcs upstream is verified."""

    ca: File | None = Field(None, description="PEM file; by default the system's roots.")
    verify: bool = Field(True, description="false accepts any certificate; said out loud.")
    sni: str | None = Field(None, description="Server name; by default the endpoint's host.")


class Upstream(Strict):
    """A service behind the gateway."""

    endpoints: list[Annotated[str, AfterValidator(_endpoint)]] = Field(
        min_length=1, description="URLs; names are resolved again and again."
    )
    timeout: Duration = Field(
        15.0, description="For one request to the end of its response, retries included."
    )
    retries: int = Field(
        0, ge=0, le=_MOST_RETRIES, description="Further tries; unsafe methods if nothing arrived."
    )
    health: UrlPath | None = Field(None, description="Path of an active health check.")
    balance: Literal["round_robin", "least_request", "random"] = Field(
        "round_robin", description="How requests are spread over endpoints."
    )
    identity: Literal["none"] | None = Field(None, description="`none` sends no identity there.")
    tls: UpstreamTls | None = Field(None, description="For https and grpcs.")
    descriptors: File | None = Field(
        None, description="A descriptor set of its gRPC services (protoc --include_imports)."
    )
    concurrency: int | None = Field(
        None, ge=1, le=_MOST_AT_ONCE, description="Calls of one worker under way; more wait."
    )
    forward_credentials: bool = Field(
        False, description="Let the client's credential through to this upstream."
    )

    @model_validator(mode="after")
    def _one_scheme(self) -> Self:
        schemes = {urlsplit(url).scheme for url in self.endpoints}
        if len(schemes) > 1:
            raise ValueError(f"mixes {' and '.join(sorted(schemes))}, expected one scheme")
        if self.tls is not None and schemes <= {"http", "grpc"}:
            raise ValueError("has `tls` with plain endpoints, expected https:// or grpcs://")
        return self

    @property
    def origin(self) -> str:
        """What tells whose answers these are: the endpoints, and how they are known to be them."""
        tls = self.tls or UpstreamTls()
        return " ".join([*sorted(self.endpoints), tls.sni or "", str(tls.verify)])

    @property
    def speaks_grpc(self) -> bool:
        """Say whether the endpoints speak HTTP/2 from the start."""
        return urlsplit(self.endpoints[0]).scheme in {"grpc", "grpcs"}
