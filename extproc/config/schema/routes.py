"""`routes:`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from extproc.config.schema.aggregates import Aggregate
from extproc.config.schema.shapes import (
    HEADERS,
    METHOD,
    HeaderName,
    Names,
    Strict,
    UrlPath,
    as_list,
    is_method,
    worded,
)
from extproc.config.units import Duration, Pause, Size, shown
from extproc.core.headers import OF_CONNECTION

_CLASS = r"^[^:]+:[A-Za-z_]\w*$"
_HOST = r"^(\*\.)?[a-z0-9.-]+$"
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
_NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def _methods(value: Any) -> Any:
    if value == "any" or value is None:
        return value
    if not isinstance(value, list) or not value:
        raise ValueError(f"is {shown(value)}, expected a list such as [GET, POST], or any")
    for method in value:
        if not isinstance(method, str) or not is_method(method):
            raise ValueError(f"has {shown(method)}, expected methods in capitals such as GET")
    return value


class Accepted(Strict):
    """Which authenticators a route takes.

    Attributes:
        names: of authenticators; `anonymous` makes it optional; empty for none.
        every: whether each is demanded.
    """

    names: list[str] = Field([])
    every: bool = False


def _authentication(value: Any) -> Any:
    if isinstance(value, Accepted):
        return value
    if value == "none":
        return Accepted()
    every = isinstance(value, dict) and list(value) == ["all"]
    names = value["all"] if every else as_list(value)
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return Accepted(names=names, every=every)
    raise ValueError(
        f"is {shown(value)}, expected none, a list of authenticators, or `all:` and such a list"
    )


def _condition(value: Any) -> Any:
    if value is True or isinstance(value, str):
        return value
    raise ValueError(f"is {shown(value)}, expected text, or true for present")


Condition = Annotated[
    Any,
    BeforeValidator(_condition),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"const": True}]}),
]
Host = Annotated[
    str, Field(pattern=_HOST), worded(_HOST, "a host in lower case, or *. and a suffix")
]
RouteName = Annotated[
    str,
    Field(pattern=_NAME),
    worded(_NAME, "a name of lower-case letters, digits, `_`, `.` and `-`"),
]
ClassName = Annotated[str, Field(pattern=_CLASS), worded(_CLASS, "module:Class or file.py:Class")]
Authentication = Annotated[
    Accepted,
    BeforeValidator(_authentication),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                _NAMES,
                {
                    "type": "object",
                    "properties": {"all": _NAMES},
                    "required": ["all"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class Match(Strict):
    """Which requests a route takes."""

    path: UrlPath = Field(description="Exact, with {name} segments, or ending in /*.")
    methods: Annotated[
        Literal["any"] | list[Annotated[str, Field(pattern=f"^{METHOD}$")]] | None,
        BeforeValidator(_methods),
    ] = Field(None, description="By default GET, HEAD, POST, PUT, PATCH and DELETE.")
    host: Host | None = Field(None, description="Exact, or *. and a suffix.")
    headers: Annotated[dict[HeaderName, Condition], HEADERS] = Field(
        {}, description="Name to text, or true."
    )
    query: dict[str, Condition] = Field({}, description="Name to text, or true.")


class Rewrite(Strict):
    """What the upstream gets in place of the path."""

    path: UrlPath = Field(description="Text with holes; the query stays without a ?.")


def _settable(name: str) -> str:
    """Refuse what Envoy says itself: it would stay as it is, without a word."""
    if name in OF_CONNECTION or name.startswith("x-envoy-"):
        raise ValueError(f"is {shown(name)}, which only Envoy says, expected another header")
    return name


class Headers(Strict):
    """Changes of headers; removals come first."""

    remove: list[HeaderName] = Field(
        [], description="Names; framing, `host` and x-envoy-* stay as they are."
    )
    set: Annotated[dict[Annotated[HeaderName, AfterValidator(_settable)], str], HEADERS] = Field(
        {}, description="Name to text with holes; none of framing, `host` or x-envoy-*."
    )


class Message(Strict):
    """Changes of a request or a response."""

    headers: Headers = Field(Headers(), description="Set and remove.")
    body: str | None = Field(None, description="JMESPath over the JSON body.")


class Response(Message):
    """Changes of a response."""

    views: dict[str, str] = Field({}, description="JMESPath by view, in place of `body`.")


class CacheKey(Strict):
    """What makes a difference to a stored response."""

    query: list[str] | None = Field(None, description="Only these parameters; by default all.")
    headers: list[HeaderName] = Field([], description="These headers, whatever Vary says.")


def _statuses(value: Any) -> Any:
    if isinstance(value, dict):
        for status in value:
            if not re.fullmatch(r"[2-5]\d\d", str(status)):
                raise ValueError(f"has {shown(status)}, expected statuses from 200 to 599")
    return value


Statuses = Annotated[dict[str, Duration], BeforeValidator(_statuses)]


class Cache(Strict):
    """Stored responses; by themselves the rules are those of RFC 9111."""

    ttl: Duration | None = Field(
        None, description="Fresh for so long where the response names no lifetime."
    )
    min_ttl: Pause = Field(0.0, description="A shorter lifetime is this long.")
    max_ttl: Duration | None = Field(None, description="A longer lifetime is this long.")
    force_ttl: Duration | None = Field(None, description="Whatever lifetime the response names.")
    statuses: Statuses = Field(
        {}, description="Lifetime by status, such as `'404': 10s`, where the response names none."
    )
    stale_while_revalidate: Pause = Field(
        0.0, description="Given stale for so long, and validated meanwhile."
    )
    stale_if_error: Pause = Field(0.0, description="Given stale for so long in place of an error.")
    key: CacheKey = Field(CacheKey(), description="What makes a difference.")
    cookies: list[str] | None = Field(
        None, description="Only these cookies go to the upstream and into the key."
    )
    shared: bool = Field(
        False,
        description="true: nothing of who is calling is in a response; cookies don't go upstream.",
    )
    tags: list[str] = Field([], description="Text with holes; by tags stored responses are purged.")
    bypass: Names = Field([], description="Conditions; where one is true the cache is passed by.")
    methods: list[Literal["POST", "QUERY"]] = Field(
        [], description="Methods whose responses are stored by a digest of the body too."
    )
    max_bytes: Size = Field(1 << 20, description="The largest body that is stored.")
    wait: Pause = Field(
        5.0, description="So long a request waits for another's response; 0s for never."
    )


class OwnPlugin(Strict):
    """A plugin of yours."""

    use: ClassName = Field(description="module:Class or file.py:Class.")
    configuration: dict[str, Any] = Field({}, alias="with", description="The plugin's fields.")
    on_failure: Literal["deny", "skip"] = Field("deny", description="What its failure means.")
    deadline: Duration = Field(0.5, description="For each of its hooks.")


class Route(Strict):
    """A match and what happens to the requests it takes."""

    name: RouteName = Field(description="For records, metrics and the verdict.")
    match: Match = Field(description="Which requests.")
    upstream: str | None = Field(None, description="A name under `upstreams`.")
    aggregate: Aggregate | None = Field(None, description="In place of an upstream.")
    body: Literal["json"] | None = Field(
        None, description="json: policies may read `request.body`; nothing else is let through."
    )
    rewrite: Rewrite | None = Field(None, description="Another path for the upstream.")
    authentication: Authentication | None = Field(
        None,
        description="none, a list (`anonymous` makes it optional), or `all:` and a list.",
    )
    authorization: Names = Field([], description="Policies; all must allow.")
    identity: Literal["none"] | None = Field(None, description="`none` sends no identity.")
    plugins: list[OwnPlugin] = Field([], description="Your own, in order.")
    cache: Cache | None = Field(None, description="Answer from stored responses.")
    request: Message | None = Field(None, description="Changes on the way in.")
    response: Response | None = Field(None, description="Changes on the way out.")
    upgrade: list[Literal["websocket"]] = Field([], description="Protocols to switch to.")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.upstream is None) == (self.aggregate is None):
            raise ValueError("needs `upstream` or `aggregate`, expected exactly one")
        if self.aggregate is not None and (self.rewrite or self.request or self.upgrade):
            raise ValueError(
                "changes the request of an aggregate, expected `upstream` with "
                "rewrite, request and upgrade"
            )
        return self


def _version(value: int) -> int:
    if value != 1:
        raise ValueError(f"is {value}, expected 1")
    return value


Version = Annotated[int, AfterValidator(_version)]
