"""Who we concluded is calling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Principal:
    """The result of authentication.

    Attributes:
        kind: jwt, api_key, basic, mtls, introspection or anonymous.
        authenticator: the name under `authentication:`; empty for anonymous.
        subject: who; empty for anonymous.
        issuer: who vouches; empty if nobody does.
        scopes: what was granted, in the order of the credential.
        claims: everything the credential says; read only.
        consumer: the class of client, where the credential itself says it; else empty.
        ahead: seconds by which the issuer's clock, and so `iat`, may be ahead of ours.
        expires: seconds since the epoch, where the file that lists the credential says so; a token
            says it by `exp`.
    """

    kind: str
    authenticator: str = ""
    subject: str = ""
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS)
    consumer: str = ""
    ahead: float = 0.0
    expires: float | None = None


ANONYMOUS = Principal("anonymous")
