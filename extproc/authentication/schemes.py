"""Kinds of credentials: where one is presented, who judges it, and how it is asked for.

A `Scheme` is one place of a request (a header, a cookie, a parameter, the connection). Where
several kinds share the Authorization header, each is a `Reader` by the name that stands before
its credential there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Protocol

from extproc.authentication.tokens import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from extproc.core.ports import Services
    from extproc.core.principal import Principal
    from extproc.core.values import Request

_LONGEST = 16 << 10
_DOTS = 2  # of a compact JWS, RFC 7515 section 7.1
_REMEMBERED = 1024  # headers that are read once, each no longer than this:
_LONGEST_REMEMBERED = 4096
_IN_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]")


class Scheme(Protocol):
    """One place where a route accepts credentials.

    Attributes:
        of_connection: it is the connection's, as a client certificate; one of a request beside
            it is taken, and it isn't counted.
    """

    of_connection: ClassVar[bool]

    def start(self, services: Services) -> None:
        """Prepare; once per worker and version."""

    def presented(self, request: Request) -> str | None:
        """Return the credential in this place; None for none.

        Raises:
            Refused: what is presented can't be read as one.
        """

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Conclude who is calling.

        Raises (at once, or from the awaitable):
            Refused: the credential isn't accepted.
            NotReady: it can't be judged now.
        """

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """Return what asks for a credential of this kind (RFC 9110 section 11.6.1)."""


class Reader(Protocol):
    """Judges one kind of credential, wherever it stood."""

    def start(self, services: Services) -> None:
        """Prepare; once per worker and version."""

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """As `Scheme.verify`."""

    def challenge(self, *, refused: bool) -> str:
        """As one of `Scheme.challenges`."""


def one_value(request: Request, header: str) -> str | None:
    """Return a header's value; None if it is absent.

    Raises:
        Refused: it was sent more than once.
    """
    values = request.headers.get_all(header)
    if len(values) > 1:
        raise Refused("several_credentials")
    return values[0] if values else None


class InHeader:
    """A header that names the kind of its credential (RFC 9110 section 11.6.2).

    Args:
        header: in lower case.
        readers: by what stands before the credential, in lower case.
    """

    of_connection: ClassVar[bool] = False

    def __init__(self, header: str, readers: Mapping[str, Reader]) -> None:
        self._header = header
        self._readers = dict(readers)
        self._parted: dict[str, tuple[Reader, str]] = {}

    def start(self, services: Services) -> None:
        """Prepare every kind."""
        for reader in self._readers.values():
            reader.start(services)

    def presented(self, request: Request) -> str | None:
        """Return the header; one of a kind that nobody reads is no credential to fall back from."""
        value = one_value(request, self._header)
        if value is None or value in self._parted:
            return value
        kind, _, credential = value.partition(" ")
        if len(value) > _LONGEST:
            raise Refused("too_large")
        if kind.lower() not in self._readers or not credential:
            raise Refused("malformed")
        if "," in credential or " " in credential or "\t" in credential:
            raise Refused("malformed")
        if credential.count(".") == _DOTS and len(value) <= _LONGEST_REMEMBERED:
            # A token that says when it ends; passwords and opaque tokens are never kept.
            if len(self._parted) >= _REMEMBERED:
                self._parted.clear()
            self._parted[value] = (self._readers[kind.lower()], credential)
        return value

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Hand it to its reader."""
        parted = self._parted.get(credential)
        if parted is None:
            kind, _, rest = credential.partition(" ")
            return self._readers[kind.lower()].verify(rest, request)
        return parted[0].verify(parted[1], request)

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """One for each kind."""
        return tuple(reader.challenge(refused=refused) for reader in self._readers.values())


class InCookie:
    """A cookie that is a token.

    Cookies of one name and different paths are sent together; which one a backend would take is
    anybody's guess, so a name that comes twice is refused.
    """

    of_connection: ClassVar[bool] = False

    def __init__(self, name: str, reader: Reader) -> None:
        self._name = name
        self._reader = reader

    def start(self, services: Services) -> None:
        """Prepare."""
        self._reader.start(services)

    def presented(self, request: Request) -> str | None:
        """Return the cookie's value."""
        values = [value for name, value in cookies(request) if name == self._name]
        if len(values) > 1:
            raise Refused("several_credentials")
        return values[0] if values else None

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Hand it to the reader."""
        return self._reader.verify(credential, request)

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """As the reader's."""
        return (self._reader.challenge(refused=refused),)


class InQuery:
    """A query parameter that is a token (RFC 6750 section 2.3), where there is no other way."""

    of_connection: ClassVar[bool] = False

    def __init__(self, name: str, reader: Reader) -> None:
        self._name = name
        self._reader = reader

    def start(self, services: Services) -> None:
        """Prepare."""
        self._reader.start(services)

    def presented(self, request: Request) -> str | None:
        """Return the parameter's value."""
        values = request.queries.get(self._name, [])
        if len(values) > 1:
            raise Refused("several_credentials")
        return values[0] if values else None

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Hand it to the reader."""
        return self._reader.verify(credential, request)

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """As the reader's."""
        return (self._reader.challenge(refused=refused),)


def cookies(request: Request) -> list[tuple[str, str]]:
    """Return the cookies as they came (RFC 6265 section 4.2.1), values without quotes undone."""
    pairs = []
    for header in request.headers.get_all("cookie"):
        for crumb in header.split(";"):
            name = name_of_crumb(crumb)
            if name:
                pairs.append((name, crumb.strip(" \t").partition("=")[2]))
    return pairs


def name_of_crumb(crumb: str) -> str:
    """Return the name of one `name=value` of a Cookie header.

    What can't be part of a name (RFC 6265 section 4.1.1) is left out at its ends, since backends
    differ in what they trim: `sid =x`, `"sid"=x` and `sid<NBSP>=x` are `sid` to one or another,
    so to the gateway they are as well, when it looks for a credential and when it takes one away.
    """
    name = crumb.partition("=")[0]
    begins, behind = (_leading(text) for text in (name, name[::-1]))
    return name[begins : len(name) - behind]


def _leading(text: str) -> int:
    """Count what can't be part of a name before what can; linear, since clients choose the text."""
    found = _IN_NAME.search(text)
    return found.start() if found else len(text)
