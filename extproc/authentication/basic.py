"""Basic authentication (RFC 7617): users with bcrypt or argon2 hashes.

A hash is slow by design, so it is computed in a bounded pool of threads; a pair that was right is
remembered for a minute, as a keyed hash. A name that isn't there costs the same as a wrong
password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import argon2
import bcrypt

from extproc.authentication.tokens import NotReady, Refused
from extproc.core.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from extproc.core.ports import Services
    from extproc.core.values import Request

_REMEMBERED_FOR = 60.0
_MOST_REMEMBERED = 10_000
_LONGEST = 1024
_LONGEST_BCRYPT = 72  # bytes of a password that bcrypt looks at
_THREADS = 2
_MOST_WAITING = 64
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}\Z")
_ARGON2 = re.compile(r"\$argon2(id|i|d)\$v=19\$m=\d{1,7},t=\d{1,2},p=\d{1,2}\$[^$]+\$[^$]+\Z")
_COST = 10  # of the hash that a name which isn't there is compared with, if no user has one


class BadHash(ValueError):
    """A hash of the file can't be used; the message says why."""


def check(text: str) -> str:
    """Return a hash.

    Raises:
        BadHash: it is neither bcrypt nor argon2.
    """
    if _BCRYPT.match(text):
        return text
    if not _ARGON2.match(text):
        raise BadHash("the hash is neither bcrypt ($2y$) nor argon2 ($argon2id$)")
    try:
        argon2.extract_parameters(text)
    except argon2.exceptions.InvalidHashError as error:
        raise BadHash("the hash is no argon2 hash") from error
    return text


def matches(password: bytes, kept: str) -> bool:
    """Say whether a password has this hash; takes as long as the hash's cost says."""
    if kept.startswith("$argon2"):
        try:
            return argon2.PasswordHasher().verify(kept, password)
        except argon2.exceptions.VerificationError:
            return False
    # Newer bcrypt raises where older ones looked at the first 72 bytes alone.
    same = bcrypt.checkpw(password[:_LONGEST_BCRYPT], kept.encode())
    return same and len(password) <= _LONGEST_BCRYPT


class BasicUsers:
    """The users of one file."""

    def __init__(self, name: str, users: Mapping[str, str]) -> None:
        self.name = name
        self._users = {user: (kept, Principal("basic", name, user)) for user, kept in users.items()}
        # Names are found or not in the time of the costliest kind that the file has.
        self._nobodys = max(users.values(), key=_costs, default="") or _made_up()
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}
        self._pool = ThreadPoolExecutor(_THREADS, f"basic-{name}")
        self._waiting = 0

    def __contains__(self, user: object) -> bool:
        """Say whether there is a user of this name."""
        return user in self._users

    def start(self, services: Services) -> None:
        """Take the clock."""
        self._clock = services.clock

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Compare a password with its user's hash, or remember that it was right."""
        del request
        user, password = cut(credential)
        kept, principal = self._users.get(user, (self._nobodys, None))
        # The hash is part of it, so that nothing is remembered across a change of password.
        pair = b"\0".join((user.encode(), kept.encode(), password))
        mark = hmac.digest(self._key, pair, "sha256")
        until = self._remembered.get(mark)
        if until is not None and principal is not None and self._clock.monotonic() < until:
            return principal
        if self._waiting >= _MOST_WAITING:
            raise NotReady("authentication_busy", "Too many passwords are being checked.")
        return self._compared(password, kept, principal, mark)

    async def _compared(
        self, password: bytes, kept: str, principal: Principal | None, mark: bytes
    ) -> Principal:
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            same = await loop.run_in_executor(self._pool, matches, password, kept)
        finally:
            self._waiting -= 1
        if principal is None:
            raise Refused("user_unknown")
        if not same:
            raise Refused("password_wrong")
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[mark] = self._clock.monotonic() + _REMEMBERED_FOR
        return principal

    def challenge(self, *, refused: bool) -> str:
        """RFC 7617 section 2; the same for every refusal."""
        del refused
        return 'Basic realm="gateway", charset="UTF-8"'


def cut(credential: str) -> tuple[str, bytes]:
    """Return user and password (RFC 7617 section 2).

    Raises:
        Refused: it isn't base64 of UTF-8 with a colon, or holds control characters.
    """
    if len(credential) > _LONGEST:
        raise Refused("too_large")
    try:
        data = base64.b64decode(credential, validate=True)
        text = data.decode()
    except (binascii.Error, ValueError) as error:
        raise Refused("malformed") from error
    user, colon, password = text.partition(":")
    if not colon or not user or any(c < " " or c == "\x7f" for c in text):
        raise Refused("malformed")
    return user, password.encode()


def _costs(kept: str) -> tuple[bool, str]:
    """Return what orders hashes by how long they take: argon2 last, bcrypt by its cost."""
    return kept.startswith("$argon2"), kept[4:6]


def _made_up() -> str:
    return bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(_COST)).decode()
