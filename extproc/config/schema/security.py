"""`authentication:`, `identity:`, `consumers:` and policies."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from extproc.config.schema.shapes import HEADERS, File, HeaderName, Name, Strict, worded
from extproc.config.units import Duration, Pause

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
_USUAL: list[Algorithm] = ["RS256", "PS256", "ES256", "EdDSA"]
_DAY = 86_400.0
_REASON = r"^[a-z][a-z0-9_]*$"
_URL = r"^https?://[!-~]+$"
Reason = Annotated[
    str, Field(pattern=_REASON), worded(_REASON, "lower-case letters, digits and `_`")
]
HttpUrl = Annotated[str, Field(pattern=_URL), worded(_URL, "a URL with http or https")]


class Jwt(Strict):
    """Tokens of one issuer."""

    issuer: str = Field(min_length=1, description="Exactly the token's `iss`.")
    audiences: list[str] = Field(min_length=1, description="One of them must be in `aud`, exactly.")
    discovery: bool | None = Field(
        None, description="Find the keys by the issuer's /.well-known/openid-configuration."
    )
    jwks_uri: HttpUrl | None = Field(None, description="Where the keys are.")
    jwks: File | None = Field(None, description="A file with the keys.")
    algorithms: list[Algorithm] = Field(_USUAL, min_length=1, description="What is accepted.")
    leeway: Pause = Field(5.0, description="How far clocks may differ.")
    max_lifetime: Duration = Field(_DAY, description="The latest `exp` from now.")
    header: HeaderName = Field("authorization", description="Where the bearer token is.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [n for n in ("discovery", "jwks_uri", "jwks") if getattr(self, n)]
        if len(named) != 1:
            said = " and ".join(named) or "none"
            raise ValueError(f"names {said}, expected one of discovery, jwks_uri or jwks")
        return self


class ApiKey(Strict):
    """Keys that were handed out, from a file."""

    header: HeaderName = Field("x-api-key", description="Where the key is.")
    file: File = Field(description="YAML with a list under `keys:`, or JSON lines (`.jsonl`).")


class Authenticator(Strict):
    """One way of finding out who is calling."""

    jwt: Jwt | None = Field(None, description="Bearer tokens that are JWTs.")
    api_key: ApiKey | None = Field(None, description="Keys that were handed out.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.jwt is None) == (self.api_key is None):
            raise ValueError("names no kind or several, expected one of jwt and api_key")
        return self

    @property
    def header(self) -> str:
        """Return where the credential is."""
        if self.jwt is not None:
            return self.jwt.header
        return self.api_key.header if self.api_key is not None else ""


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
