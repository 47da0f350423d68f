"""The key of a stored response: everything that may make a difference to it.

What is in the request's line is always in it; of who is calling exactly what the upstream is told
or the shape of the answer is made from, found from the compiled expressions when the gateway file
is loaded. Secrets are in it as digests.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from extproc.caching.parameters import counted, target_with
from extproc.caching.uris import named

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from extproc.core.values import Request

_LONG, _TELLING = 256, 100  # characters of a name that stays, and that a digest has before it
Part = tuple[str, "Callable[[Request], Hashable]"]
type_of_key = tuple[Any, ...]


def _claims(request: Request) -> str:
    return written(dict(request.principal.claims))


# What an expression may read of who is calling, or of what else isn't in the request's line.
# Time and ids aren't here: a stored answer keeps those of the exchange that made it.
INPUTS: dict[str, Callable[[Request], Hashable]] = {
    "principal.authenticator": lambda request: request.principal.authenticator,
    "principal.kind": lambda request: request.principal.kind,
    "principal.subject": lambda request: request.principal.subject,
    "principal.issuer": lambda request: request.principal.issuer,
    "principal.scopes": lambda request: request.principal.scopes,
    "principal.claims": _claims,
    "consumer": lambda request: request.consumer,
    "request.address": lambda request: request.address,
}
# What an identity assertion tells of the principal.
ASSERTED = (
    "principal.authenticator",
    "principal.kind",
    "principal.subject",
    "principal.issuer",
    "principal.scopes",
)


def written(value: Any) -> str:
    """Write plain values as one text that is equal for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()


def digest(text: str) -> str:
    """Return what stands for a secret or for a long text."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=24).hexdigest()


def short(text: str) -> str:
    """Return a text, or what stands for a long one: a client chooses how long a URI is.

    Of what this returns it returns the same.
    """
    return text if len(text) <= _LONG else f"{text[:_TELLING]}…{digest(text)}"


def size(key: Hashable) -> int:
    """Return how long the texts of a key are, all together."""
    if isinstance(key, str):
        return len(key)
    return sum([size(part) for part in key]) if isinstance(key, tuple | frozenset) else 0


def claim(name: str) -> Callable[[Request], Hashable]:
    """Return what reads one claim; one that is null is another than one that isn't there."""

    def read(request: Request) -> Hashable:
        claims = request.principal.claims
        return written(claims[name]) if name in claims else None

    return read


def header(name: str) -> Callable[[Request], Hashable]:
    """Return what reads a header, as a digest: it may be a credential."""

    def read(request: Request) -> Hashable:
        value = request.headers.get(name)
        return None if value is None else digest(value)

    return read


def forwarded(name: str) -> Callable[[Request], Hashable]:
    """Return what reads a credential that calls forward, as a digest: as the client sent it.

    That is what goes upstream, whatever a plugin wrote in its place.
    """
    return lambda request: digest(request.headers.received(name))


def parameter(name: str) -> Callable[[Request], Hashable]:
    """Return what reads a query parameter, under every name that may be taken for it."""
    names = frozenset({name})
    return lambda request: counted(names, request.query)


def all_headers(request: Request) -> Hashable:
    """Return all headers, as a digest."""
    return digest(written(request.headers.joined()))


def view(consumers: frozenset[str]) -> Callable[[Request], Hashable]:
    """Return what tells which shape a consumer gets."""
    return lambda request: request.consumer if request.consumer in consumers else ""


def written_by_plugins(request: Request) -> Hashable:
    """Return what plugins before the cache changed of the request."""
    changed = request.headers.written()
    return (request.rewritten, *[(name, tuple(values)) for name, values in changed])


@dataclass(frozen=True, slots=True)
class KeyOf:
    """What makes a key of a request.

    Attributes:
        route: stands for all of the gateway file that shapes the answer.
        parts: named readers of what else makes a difference.
        parameters: query parameters that count; None for the query as it is.
        headers: request headers that count.
        secrets: headers with credentials that the upstream gets.
    """

    route: str
    parts: tuple[Part, ...] = ()
    parameters: frozenset[str] | None = None
    headers: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ("authorization", "cookie")

    def of(self, request: Request) -> type_of_key:
        """Return the key of a request that has none of the secrets."""
        target = request.target if self.parameters is None else self.target(request)
        key: type_of_key = (self.route, request.scheme, request.host, target)
        if self.parts:
            key += tuple([read(request) for _, read in self.parts])
        if self.headers:
            key += tuple([request.headers.get(name) for name in self.headers])
        return key

    def whole(self, request: Request) -> type_of_key:
        """Return the key of any request."""
        key = self.of(request)
        for name in self.secrets:
            value = request.headers.get(name)
            if value is not None:
                key = (*key, name, digest(value))
        return key

    def target(self, request: Request) -> str:
        """Return path and query with only the parameters that count, as they were sent."""
        if self.parameters is None:
            return request.target
        return target_with(self.parameters, request.path, request.query)

    def uri(self, request: Request) -> str:
        """Return the URI whose stored responses an unsafe method invalidates."""
        origin = f"{request.scheme}://{request.host}"
        return named(origin, self.parameters, request.path, request.query)


def name_of(key: type_of_key) -> str:
    """Return a key's name in a store of text: a hash in which no part can pass for two."""
    return hashlib.blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=24).hexdigest()
