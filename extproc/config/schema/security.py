"""`authentication:`, `identity:`, `consumers:` and policies."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from extproc.config.schema.shapes import HEADERS, File, HeaderName, Name, Strict, worded
from extproc.config.units import Duration, Pause, shown

Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "HS256",
    "HS384",
    "HS512",
]
_USUAL: list[Algorithm] = ["RS256", "PS256", "ES256", "EdDSA"]
_WITH_SECRET: list[Algorithm] = ["HS256"]
_SOURCES = ("discovery", "jwks_uri", "jwks", "secret")
_FIELD_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$"
_DAY = 86_400.0
_REASON = r"^[a-z][a-z0-9_]*$"
_URL = r"^https?://[!-~]+$"
Reason = Annotated[
    str, Field(pattern=_REASON), worded(_REASON, "lower-case letters, digits and `_`")
]
CookieName = Annotated[
    str, Field(pattern=_FIELD_NAME), worded(_FIELD_NAME, "a name of letters, digits and `_-.`")
]


def _is_http_url(value: str) -> bool:
    """Say whether a text is a URL that can be asked: its host and port are such."""
    try:
        parts = urlsplit(value)
        return re.match(_URL, value) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that isn't closed, a port over 65535
        return False


def _http_url(value: str) -> str:
    if not _is_http_url(value):
        raise ValueError(f"is {shown(value)}, expected a URL with http or https")
    return value


HttpUrl = Annotated[
    str,
    Field(pattern=_URL),
    worded(_URL, "a URL with http or https"),
    AfterValidator(_http_url),
]


class Jwt(Strict):
    """Tokens of one issuer."""

    issuer: str = Field(min_length=1, description="Exactly the token's `iss`.")
    audiences: list[str] = Field(min_length=1, description="One of them must be in `aud`, exactly.")
    discovery: bool | None = Field(
        None, description="Find the keys by the issuer's /.well-known/openid-configuration."
    )
    jwks_uri: HttpUrl | None = Field(None, description="Where the keys are.")
    jwks: File | None = Field(None, description="A file with the keys.")
    secret: str | None = Field(
        None, description="In place of public keys: what the issuer signs HS256 with."
    )
    algorithms: list[Algorithm] = Field(
        [], description="What is accepted; by default RS256, PS256, ES256, EdDSA, or HS256."
    )
    leeway: Pause = Field(5.0, description="How far clocks may differ.")
    max_lifetime: Duration = Field(_DAY, description="The latest `exp` from now.")
    profile: Literal["rfc9068"] | None = Field(
        None, description="Only access tokens by RFC 9068: `typ` at+jwt, client_id, jti."
    )
    proof: Literal["certificate", "dpop"] | None = Field(
        None, description="The caller shows that the token is theirs (RFC 8705, RFC 9449)."
    )
    refresh: Pause = Field(300.0, gt=0, description="Keys this old are fetched again.")
    cooldown: Pause = Field(10.0, gt=0, description="At least so long between two fetches.")
    max_stale: Pause = Field(
        _DAY, gt=0, description="How long fetched keys are good while the issuer can't be reached."
    )
    header: HeaderName = Field("authorization", description="Where the bearer token is.")
    cookie: CookieName | None = Field(None, description="In place of a header: a cookie.")
    query: CookieName | None = Field(None, description="In place of a header: a parameter.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [name for name in _SOURCES if getattr(self, name)]
        if len(named) != 1:
            said = " and ".join(named) or "none"
            raise ValueError(f"names {said}, expected one of discovery, jwks_uri, jwks or secret")
        if self.discovery and not _is_http_url(self.issuer):
            wanted = "expected one with http or https, or `jwks_uri` in place of discovery"
            raise ValueError(f"has the issuer {shown(self.issuer)}, {wanted}")
        return self

    @model_validator(mode="after")
    def _algorithms_of_the_source(self) -> Self:
        by_secret = self.secret is not None
        if any(name.startswith("HS") != by_secret for name in self.algorithms):
            wanted = "HS256, HS384, HS512" if by_secret else "no HS algorithm without `secret`"
            raise ValueError(f"has algorithms of another kind of key, expected {wanted}")
        return self

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        elsewhere = [name for name in ("cookie", "query") if getattr(self, name)]
        if len(elsewhere) + ("header" in self.model_fields_set) > 1:
            raise ValueError("looks in several places, expected one of header, cookie and query")
        if elsewhere and self.proof == "dpop":
            raise ValueError("has `proof: dpop`, which needs the Authorization header")
        return self

    @property
    def accepted(self) -> frozenset[str]:
        """Return the algorithms that are accepted."""
        return frozenset(self.algorithms or (_WITH_SECRET if self.secret else _USUAL))


class ApiKey(Strict):
    """Keys that were handed out, from a file."""

    header: HeaderName = Field("x-api-key", description="Where the key is.")
    file: File = Field(description="YAML with a list under `keys:`, or JSON lines (`.jsonl`).")


class Basic(Strict):
    """User and password (RFC 7617)."""

    file: File = Field(description="Lines of `user:hash`; bcrypt or argon2, as htpasswd -B makes.")


class Mtls(Strict):
    """The certificate of the client's connection, as Envoy verified it."""

    trust_domains: list[str] = Field(
        [], description="SPIFFE ids must be of one of these; by default any name is accepted."
    )


class Introspection(Strict):
    """Opaque tokens, judged by the server that issued them (RFC 7662)."""

    url: HttpUrl = Field(description="The introspection endpoint.")
    client_id: str = Field(min_length=1, description="This gateway's name there.")
    client_secret: str = Field(min_length=1, description="Its password there.")
    header: HeaderName = Field("authorization", description="Where the bearer token is.")
    remember: Duration = Field(60.0, ge=0, description="How long an active token isn't asked for.")
    timeout: Duration = Field(3.0, gt=0, le=5, description="For one question.")
    audiences: list[str] = Field([], description="One of them must be in `aud`; none: any.")
    issuer: str | None = Field(None, description="Exactly `iss`; none: any.")


_KINDS = ("jwt", "api_key", "basic", "mtls", "introspection")


class Authenticator(Strict):
    """One way of finding out who is calling."""

    jwt: Jwt | None = Field(None, description="Bearer tokens that are JWTs.")
    api_key: ApiKey | None = Field(None, description="Keys that were handed out.")
    basic: Basic | None = Field(None, description="User and password.")
    mtls: Mtls | None = Field(None, description="The client's certificate.")
    introspection: Introspection | None = Field(
        None, description="Bearer tokens that their issuer is asked about."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(f"names no kind or several, expected one of {', '.join(_KINDS)}")
        return self

    @property
    def headers(self) -> tuple[str, ...]:
        """Return the headers in which credentials are."""
        if self.jwt is not None:
            proof = ("dpop",) if self.jwt.proof == "dpop" else ()
            elsewhere = self.jwt.cookie is not None or self.jwt.query is not None
            return proof if elsewhere else (self.jwt.header, *proof)
        if self.basic is not None:
            return ("authorization",)
        for kind in (self.api_key, self.introspection):
            if kind is not None:
                return (kind.header,)
        return ()

    @property
    def reads_certificates(self) -> bool:
        """Say whether it needs to know the client's certificate."""
        return self.mtls is not None or (self.jwt is not None and self.jwt.proof == "certificate")


class Assertion(Strict):
    """A signed statement of who is calling, for each upstream."""

    header: HeaderName = Field("x-gateway-assertion", description="Where it is.")
    key: File = Field(description="PEM of an Ed25519 or P-256 private key.")
    previous: list[File] = Field(
        [], description="Keys that are still published, though nothing is signed with them."
    )
    issuer: str = Field("extproc", min_length=1, description="Its `iss`.")
    ttl: Duration = Field(60.0, ge=2, le=3600, description="How long it is good for.")


class Identity(Strict):
    """What upstreams are told."""

    assertion: Assertion | None = Field(
        None, description="A signed statement; keys at /.well-known/gateway-jwks.json."
    )

    headers: Annotated[dict[HeaderName, str], HEADERS] = Field(
        {}, description="Name to text with holes."
    )


class Consumer(Strict):
    """A class of clients."""

    when: str = Field(description="CEL; the first consumer whose condition is true is taken.")
    view: str | None = Field(None, description="The shape these clients get where a route has it.")


class PolicyRule(Strict):
    """One rule of a policy."""

    name: str = Field(min_length=1, description="For records.")
    allow: str | None = Field(None, description="CEL; an error doesn't allow.")
    deny: str | None = Field(None, description="CEL; an error denies.")
    reason: Reason | None = Field(None, description="For records and the problem's type.")
    detail: str | None = Field(None, description="For the client.")

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("needs `allow` or `deny`, expected exactly one")
        return self


class CandidateRules(Strict):
    """Rules that are judged beside the enforced ones, and never enforced."""

    rules: list[PolicyRule] = Field(min_length=1, description="As the policy's own.")


class PolicyRules(Strict):
    """A policy: deny wins over allow; no allow means deny."""

    rules: list[PolicyRule] = Field(min_length=1, description="In any order.")
    candidate: CandidateRules | None = Field(
        None, description="Judged beside `rules` and recorded, never enforced."
    )


class PolicyFile(Strict):
    """A file in the folder of policies."""

    policies: dict[Name, PolicyRules] = Field(description="By name.")
