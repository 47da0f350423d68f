"""`*_test.yaml`: policy tests, which start from raw request bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from extproc.config.schema.shapes import HEADERS, HeaderName, Strict
from extproc.config.units import shown
from extproc.core.addresses import is_address

_LAST_BYTE = 0xFF
_AN_OFFSET = "expected a moment such as 2026-01-01T00:00:00Z"


def _moment(value: Any) -> float:
    """Read a moment with its offset from UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"is {shown(value)}, {_AN_OFFSET}") from None
    if moment.tzinfo is None:
        raise ValueError(f"is {shown(value)} without an offset, {_AN_OFFSET}")
    return moment.timestamp()


def _bytes(value: Any) -> Any:
    """Refuse characters that stand for no byte."""
    if isinstance(value, str):
        for character in value:
            if ord(character) > _LAST_BYTE:
                raise ValueError(
                    f"holds {character!r}, expected bytes: characters up to \\xff, "
                    "UTF-8 written out as \\xc3\\xbc"
                )
    return value


def _address(value: Any) -> Any:
    """Refuse what no connection comes from."""
    if isinstance(value, str) and not is_address(value):
        raise ValueError(f"is {shown(value)}, expected an IP address such as 192.0.2.1")
    return value


Moment = Annotated[float, BeforeValidator(_moment)]
Raw = Annotated[str, BeforeValidator(_bytes)]
Address = Annotated[str, BeforeValidator(_address)]


class ExpectedUpstream(Strict):
    """What the upstream must get of an allowed request."""

    name: str | None = Field(None, description="The upstream.")
    target: str | None = Field(None, description="Path and query.")
    headers: Annotated[dict[HeaderName, str | None], HEADERS] = Field(
        {}, description="Name to the whole value; null for a header that mustn't be there."
    )


class Expected(Strict):
    """What must become of a request; what isn't named isn't looked at."""

    decision: Literal["allow", "deny", "error"] = Field("deny", description="The outcome.")
    status: int | None = Field(None, description="Of the answer; 200 for an allowed request.")
    rule: str | None = Field(None, description="The policy rule that decided; empty for none.")
    reason: str | None = Field(None, description="As in the decision record.")
    route: str | None = Field(None, description="The route that matched; empty for none.")
    consumer: str | None = Field(None, description="The class of client; empty for none.")
    subject: str | None = Field(None, description="Of the principal; empty for anonymous.")
    authenticator: str | None = Field(None, description="That accepted the credential.")
    by: str | None = Field(None, description="The plugin that answered, or envoy.")
    path: str | None = Field(None, description="The path that policies saw.")
    upstream: ExpectedUpstream | None = Field(None, description="What the upstream gets.")


class MadeKey(Strict):
    """An API key made for the tests of a file."""

    authenticator: str = Field(description="The name of an authenticator with `api_key`.")
    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The principal's subject.")
    consumer: str = Field("", description="The class of client.")
    scopes: list[str] = Field([], description="What it grants.")


class PolicyTest(Strict):
    """One request and what must become of it."""

    name: str = Field(min_length=1, description="For reports.")
    request: Raw = Field(
        min_length=1, description="Raw bytes; LF becomes CRLF in the head; {name} is a credential."
    )
    address: Address = Field("127.0.0.1", description="Where the connection comes from.")
    expect: Expected = Field(Expected(), description="By default that it is denied.")


class PolicyTests(Strict):
    """A file of policy tests."""

    gateway: str = Field(min_length=1, description="The gateway file, relative to this one.")
    now: Moment | None = Field(None, description="Where the clock stands; by default the present.")
    environment: dict[str, str] = Field(
        {}, description="Variables for the gateway file, on top of those there are."
    )
    tokens: dict[str, dict[str, Any]] = Field(
        {}, description="Claims by name; $key, $alg and $header make tokens that are no good."
    )
    keys: dict[str, MadeKey] = Field({}, description="API keys by name.")
    tests: list[PolicyTest] = Field(min_length=1, description="In order.")
