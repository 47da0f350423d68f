"""`aggregate:` of a route."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from extproc.config.schema.shapes import HEADERS, METHOD, HeaderName, Strict, UrlPath, worded
from extproc.config.units import Duration, Size, shown

_PART = r"^[a-z][a-z0-9_]{0,62}$"
_RPC = r"^[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*$"
# What a name means already: in templates, and in CEL as a type or a word of its own.
_RESERVED = frozenset(
    [
        "key",
        "keys",
        "request",
        "principal",
        "consumer",
        "response",
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "bool",
        "bytes",
        "double",
        "dyn",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
    ]
)
_EXPECTED = 'expected statuses by status, such as {"409": 409}'
_MOST = 1000
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
_NEVER = {"CONNECT": "that asks for something", "HEAD": "whose answers have a body, such as GET"}


def _part_name(value: Any) -> Any:
    if isinstance(value, str) and value in _RESERVED:
        raise ValueError(f"is {shown(value)}, expected a name that means nothing else")
    return value


def _statuses(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"is {shown(value)}, {_EXPECTED}")  # noqa: TRY004 - pydantic wants ValueError
    for name, status in value.items():
        if not re.fullmatch(r"[3-5][0-9][0-9]", str(name)):
            raise ValueError(f"has {shown(name)}, expected a status from 300 to 599")
        if not isinstance(status, int) or not 400 <= status <= 599:  # noqa: PLR2004 - RFC 9110 section 15
            raise ValueError(f"has {shown(status)}, expected a status from 400 to 599")
    return {int(name): status for name, status in value.items()}


PartName = Annotated[
    str,
    Field(pattern=_PART),
    BeforeValidator(_part_name),
    worded(_PART, "a name of lower-case letters, digits and `_`"),
]


def _of_a_call(value: Any) -> Any:
    if isinstance(value, str) and value in _NEVER:
        raise ValueError(f"is {value}, expected a method {_NEVER[value]}")
    return value


Method = Annotated[
    str,
    Field(pattern=f"^{METHOD}$"),
    BeforeValidator(_of_a_call),
    worded(f"^{METHOD}$", "a method in capitals"),
]
Statuses = Annotated[
    dict[int, int],
    BeforeValidator(_statuses),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}}),
]
Count = Annotated[int, Field(ge=1, le=_MOST)]


class GrpcMethod(Strict):
    """A unary gRPC method."""

    method: Annotated[str, Field(pattern=_RPC), worded(_RPC, "package.Service/Method")] = Field(
        description="package.Service/Method, by the upstream's descriptors."
    )
    request: dict[str, Any] = Field({}, description="The message; texts may hold holes.")


class GraphQl(Strict):
    """A GraphQL query."""

    query: str = Field(description="The document; holes are in the variables alone.")
    variables: dict[str, Any] = Field({}, description="By name; texts may hold holes.")


class Batch(Strict):
    """One call for many keys."""

    path: UrlPath | None = Field(None, description="Text with holes; {keys} is all of a chunk.")
    size: Count = Field(50, description="Keys in one call.")
    key: str | None = Field(None, description="JMESPath of an item's key, for `by: key`.")
    by: Literal["key", "position", "map"] = Field(
        "key", description="How items are found: by key, in the keys' order, or in a map by key."
    )
    items: str | None = Field(None, description="JMESPath of the items; else the answer itself.")

    @model_validator(mode="after")
    def _key_by_key(self) -> Self:
        if self.by == "key" and self.key is None:
            raise ValueError("needs `key`, expected the JMESPath of an item's key, or another `by`")
        if self.by != "key" and self.key is not None:
            raise ValueError(f"has `key`, which `by: {self.by}` doesn't read, expected none")
        return self


class Asking(Strict):
    """What a call and its fallback have in common."""

    upstream: str = Field(description="A name under `upstreams`.")
    path: UrlPath | None = Field(
        None, description="Text with holes; names the parts it waits for. GraphQL: /graphql."
    )
    method: Method | None = Field(None, description="By default GET; POST for GraphQL and gRPC.")
    headers: Annotated[dict[HeaderName, str], HEADERS] = Field(
        {}, description="Name to text with holes."
    )
    body: Any = Field(None, description="JSON; a text that is one hole keeps its type.")
    format: Literal["json", "xml"] = Field("json", description="Of the answer; XML is converted.")
    grpc: GrpcMethod | None = Field(None, description="A gRPC method, in place of path and body.")
    graphql: GraphQl | None = Field(None, description="A query, in place of a body.")
    timeout: Duration | None = Field(None, description="By default the upstream's.")
    stale: Duration | None = Field(
        None, description="A stored answer stands in for a failed call for so long."
    )
    max_bytes: Size | None = Field(
        None, description="The largest answer; by default what all have together, 4MiB of gRPC."
    )

    @property
    def path_of_its_own(self) -> bool:
        """Say whether it has a path without being told one."""
        return self.grpc is not None or self.graphql is not None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.grpc is not None and (
            self.path or self.method or self.graphql or self.body is not None
        ):
            raise ValueError("has `grpc` beside path, method, body or graphql, expected it alone")
        if self.graphql is not None and (self.method or self.body is not None):
            raise ValueError("has `graphql` beside method or body, expected it alone")
        if self.format == "xml" and self.path_of_its_own:
            raise ValueError("has `format: xml` beside grpc or graphql, expected json")
        if self.body is not None and (self.method or "GET") in _WITHOUT_BODY:
            raise ValueError("has a body, expected a `method` such as POST")
        return self


class Fallback(Asking):
    """A call in place of one that failed."""

    @model_validator(mode="after")
    def _has_path(self) -> Self:
        if self.path is None and not self.path_of_its_own:
            raise ValueError("has no `path`, expected one")
        return self


class AggregateCall(Asking):
    """One call of an aggregation."""

    each: str | None = Field(
        None,
        description="JMESPath of keys in earlier parts or the request; a call for each, or for a"
        " `batch`.",
    )
    batch: Batch | None = Field(None, description="One call for many keys.")
    when: str | None = Field(None, description="CEL, with the parts by name; else it isn't made.")
    required: bool = Field(True, description="false: the answer goes on without this part.")
    default: Any = Field(None, description="Stands in for a part that failed.")
    fallback: Fallback | None = Field(None, description="Made where this call failed.")
    statuses: Statuses = Field(
        {}, description='Statuses of the upstream that become another of the answer: {"409": 409}.'
    )

    @model_validator(mode="before")
    @classmethod
    def _path_at_one_place(cls, value: Any) -> Any:
        """Looked at first, as what else `batch` lacks may come of it."""
        if isinstance(value, dict) and "path" in value:
            batch = value.get("batch")
            if isinstance(batch, dict) and "path" in batch:
                raise ValueError("has a path beside the batch's, expected one of them")
        return value

    @model_validator(mode="after")
    def _one_path(self) -> Self:
        in_batch = self.batch is not None and self.batch.path is not None
        if not (in_batch or self.path or self.path_of_its_own):
            raise ValueError("has no `path`, expected one here or under `batch`")
        if self.batch is not None and self.each is None:
            raise ValueError("has `batch` without `each`, expected keys")
        if self.each is not None and self.fallback is not None:
            raise ValueError("has `fallback` beside `each`, expected `default`")
        return self


class Selecting(Strict):
    """How a request says which view it wants; without it the consumer says so."""

    header: HeaderName | None = Field(None, description="A header that names a view.")
    query: str | None = Field(None, min_length=1, description="A parameter that names a view.")


class Aggregate(Strict):
    """One answer out of many calls."""

    deadline: Duration = Field(
        1.0, le=300, description="For all calls together; five minutes at most."
    )
    calls: dict[PartName, AggregateCall] = Field(
        min_length=1, description="By the name of the part."
    )
    response: str = Field(description="JMESPath over the parts.")
    views: dict[str, str] = Field({}, description="JMESPath by view, in place of `response`.")
    view: Selecting = Field(Selecting(), description="How a request names its view.")
    fields: str | None = Field(
        None, min_length=1, description="A parameter that names the members a client wants."
    )
    main: PartName | None = Field(
        None, description="The part whose 404 is the answer's; by default the first required."
    )
    max_calls: Count = Field(100, description="That one request may make.")
    max_bytes: Size = Field(
        16 << 20,
        description="Of all parts of one request, what is composed of them, and what is sent.",
    )
    at_once: Count = Field(32, description="Calls of one request that may be under way.")
    depth: Annotated[int, Field(ge=1, le=16)] = Field(
        4, description="Aggregations that may stand behind one another."
    )
