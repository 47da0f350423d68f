"""API keys: shown once, kept as salted hashes, found by their id, compared in constant time.

A key is `ek_ID.SECRET`. The secret is 256 random bits, so one round of SHA-256 is enough; it is
salted, so that equal secrets don't show. Every refusal takes the same steps: a key whose id is
unknown is compared with a hash that nothing has.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from extproc.authentication.schemes import one_value
from extproc.authentication.tokens import Refused
from extproc.core.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.ports import Services
    from extproc.core.values import Request

_PREFIX = "ek_"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_HASH = re.compile(r"sha256:([0-9a-f]{16,64}):([0-9a-f]{64})\Z")
_SECRET = re.compile(r"[A-Za-z0-9_-]{22,128}\Z")
_NOBODYS = "sha256:" + "00" * 8 + ":" + "00" * 32


@dataclass(frozen=True, slots=True)
class Entry:
    """One key, as the keys file has it.

    Attributes:
        id: what the key begins with; the principal's subject.
        hash: `sha256:SALT:DIGEST`, both in hexadecimal.
        consumer: the class of client; empty for none.
        scopes: what it grants.
        not_before: seconds since the epoch; None for no bound.
        expires: as `not_before`; from then on the key is refused.
    """

    id: str
    hash: str
    consumer: str = ""
    scopes: tuple[str, ...] = ()
    not_before: float | None = None
    expires: float | None = None


class BadEntry(ValueError):
    """An entry of the keys file can't be used; the message says why."""


def check(entry: Entry) -> Entry:
    """Return the entry.

    Raises:
        BadEntry: its id or hash has another form.
    """
    if not _ID.match(entry.id):
        raise BadEntry("`id` isn't 1 to 64 letters, digits, `_` and `-`")
    if not _HASH.match(entry.hash):
        raise BadEntry("`hash` isn't sha256:SALT:DIGEST (`extproc key new` makes one)")
    return entry


def digest(secret: str, salt: str) -> str:
    """Return the hash of a secret, as an entry has it."""
    value = hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
    return f"sha256:{salt}:{value}"


def written(identifier: str, secret: str) -> str:
    """Return a key as a client sends it."""
    return f"{_PREFIX}{identifier}.{secret}"


def cut(key: str) -> tuple[str, str]:
    """Return a key's id and secret.

    Raises:
        Refused: it isn't a key.
    """
    identifier, dot, secret = key.removeprefix(_PREFIX).partition(".")
    if not (key.startswith(_PREFIX) and dot and _ID.match(identifier) and _SECRET.match(secret)):
        raise Refused("malformed")
    return identifier, secret


class ApiKeys:
    """The keys of one file, in one header.

    Raises:
        BadEntry: two entries have one id.
    """

    of_connection: ClassVar[bool] = False

    def __init__(self, name: str, header: str, entries: Iterable[Entry]) -> None:
        self.name = name
        self._header = header
        self._entries: dict[str, tuple[Entry, Principal]] = {}
        for entry in entries:
            if entry.id in self._entries:
                raise BadEntry(f"the id {entry.id} is there twice")
            # One principal for each key: what is remembered of it holds for the next request.
            principal = Principal(
                "api_key",
                name,
                entry.id,
                scopes=entry.scopes,
                consumer=entry.consumer,
                expires=entry.expires,
            )
            self._entries[entry.id] = (entry, principal)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._entries)

    def __contains__(self, identifier: object) -> bool:
        """Say whether there is a key with this id."""
        return identifier in self._entries

    def start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def presented(self, request: Request) -> str | None:
        """Return the one key."""
        return one_value(request, self._header)

    def verify(self, credential: str, request: Request) -> Principal:
        """Find the key by its id and compare its hash."""
        del request
        identifier, secret = cut(credential)
        entry, principal = self._entries.get(identifier, (None, None))
        kept = entry.hash if entry is not None else _NOBODYS
        same = hmac.compare_digest(kept, digest(secret, kept.split(":")[1]))
        if entry is None or principal is None:
            raise Refused("key_unknown")
        if not same:
            raise Refused("key_wrong")
        now = self._clock.now()
        if entry.not_before is not None and now < entry.not_before:
            raise Refused("key_not_yet")
        if entry.expires is not None and now >= entry.expires:
            raise Refused("key_expired")
        return principal

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """Say which kind of credential is wanted; the same for every refusal."""
        del refused
        return ('ApiKey realm="gateway"',)
