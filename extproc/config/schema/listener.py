"""`listener:` and `admin:`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from extproc.config.schema.shapes import AddressOrSocket, File, IpAddress, Strict
from extproc.config.units import Size

_SHORTEST_TOKEN = 16
_DEFAULT_REQUEST = 1 << 20
_DEFAULT_RESPONSE = 4 << 20


def _token(value: Any) -> Any:
    """Refuse without showing: errors go to the log and to /status."""
    if value is None or (isinstance(value, str) and len(value) >= _SHORTEST_TOKEN):
        return value
    raise ValueError(f"is no token, expected quoted text of at least {_SHORTEST_TOKEN} characters")


class NamedCertificate(Strict):
    """A certificate for some server names (SNI)."""

    hosts: list[str] = Field(min_length=1, description="Server names; `*.` stands for one label.")
    certificate: File = Field(description="PEM file with the chain.")
    private_key: File = Field(description="PEM file with the key.")


class Tls(Strict):
    """TLS of the public listener."""

    certificate: File = Field(description="PEM file with the chain; for names `sni` doesn't list.")
    private_key: File = Field(description="PEM file with the key.")
    client_ca: File | None = Field(None, description="Ask clients for certificates of this CA.")
    sni: list[NamedCertificate] = Field([], description="Further certificates by server name.")


class Listener(Strict):
    """Where clients come in."""

    address: IpAddress = Field(description="IP address and port of the public listener.")
    tls: Tls | None = Field(None, description="Without it the listener speaks plain HTTP.")
    redirect: IpAddress | None = Field(
        None,
        description="IP address and port that answer HTTP with a redirect (308) to this listener.",
    )
    compression: list[Literal["br", "gzip", "zstd"]] = Field(
        ["br", "gzip"], description="Encodings offered to clients; [] for none."
    )
    max_request_bytes: Size = Field(
        _DEFAULT_REQUEST,
        description="The largest request body, a gRPC stream included; whole 60MiB at most.",
    )
    max_response_bytes: Size = Field(
        _DEFAULT_RESPONSE,
        description="The largest response body that a plugin sees whole; 60MiB at most.",
    )
    trusted_proxies: int = Field(
        0, ge=0, le=16, description="How many proxies before this one set x-forwarded-for."
    )

    @model_validator(mode="after")
    def _redirect_needs_tls(self) -> Self:
        if self.redirect is not None and self.tls is None:
            raise ValueError("has `redirect` without `tls`, expected both or none")
        return self


class Admin(Strict):
    """The administration interface."""

    address: AddressOrSocket = Field("127.0.0.1:9900", description="host:port or unix:/path.")
    token: Annotated[str, BeforeValidator(_token)] | None = Field(
        None, min_length=_SHORTEST_TOKEN, description="For POST; without it one is made at start."
    )
