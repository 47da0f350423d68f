"""Revocation: credentials that are no longer good, though nothing in themselves says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from extproc.core.errors import ConfigFault

if TYPE_CHECKING:
    from extproc.core.ports import Clock
    from extproc.core.principal import Principal

_MOST = 100_000
_EVERYTHING = ("before", "", "")
_AHEAD = 3600.0  # seconds that an issuer's clock, and so an `iat`, may be ahead of ours
LONGEST = 400 * 86_400.0  # seconds that a revocation may be kept
_LONGEST_TEXT = 1024
_MOMENTS = ("jwt", "introspection")  # credentials that say when they were issued


class BadRevocation(ConfigFault):
    """A revocation can't be taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation; exactly one of the first three says what.

    Attributes:
        token: the `jti` of a token.
        subject: of whom everything is revoked; an API key by its id.
        before: everything that was issued at this moment or earlier, seconds since the epoch.
        authenticator: only what this one accepted; empty for all.
        at: when it was made, seconds since the epoch; a subject's later tokens are good.
        until: when it may be forgotten, seconds since the epoch.
    """

    token: str = ""
    subject: str = ""
    before: float = 0.0
    authenticator: str = ""
    at: float = 0.0
    until: float = 0.0

    def __post_init__(self) -> None:
        """Check the form.

        Raises:
            BadRevocation: it says nothing, or several things.
        """
        if sum(map(bool, (self.token, self.subject, self.before))) != 1:
            raise BadRevocation("expected one of token, subject and before")
        if max(map(len, (self.token, self.subject, self.authenticator))) > _LONGEST_TEXT:
            raise BadRevocation(f"a name is longer than {_LONGEST_TEXT} characters")


class Revoked:
    """Every revocation that is in force; looked up by what a principal holds.

    Everything that was issued until a moment can be revoked however many there are, and takes the
    place of the tokens it covers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_name: dict[tuple[str, str, str], Revocation] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_name)

    def add(self, revocation: Revocation) -> None:
        """Put one in force; of two about the same, the later moment and the later end hold.

        Raises:
            BadRevocation: there are too many.
        """
        if self._is_covered(revocation):
            return
        kind = "token" if revocation.token else "subject" if revocation.subject else "before"
        place = (kind, revocation.authenticator, revocation.token or revocation.subject)
        known = self._by_name.get(place)
        if known is not None and known.until > self._clock.now():
            revocation = _both(known, revocation)
        self._by_name[place] = revocation
        if self._too_many():
            self._forget()
        if self._too_many():
            del self._by_name[place]
            raise BadRevocation(f"there are {_MOST} already; revoke by `before` instead")

    def _too_many(self) -> bool:
        return len(self._by_name) - (_EVERYTHING in self._by_name) > _MOST

    def _forget(self) -> None:
        """Let go what has ended, and what another one says as well."""
        now = self._clock.now()
        kept = {k: r for k, r in self._by_name.items() if r.until > now}
        self._by_name = {k: r for k, r in kept.items() if not self._is_covered(r)}

    def _is_covered(self, revocation: Revocation) -> bool:
        """Say whether a token was surely issued before a moment until which all are revoked."""
        if not revocation.token or not revocation.at:
            return False
        return any(
            revocation.at + _AHEAD <= wider.before and revocation.until <= wider.until
            for authenticator in {"", revocation.authenticator}
            if (wider := self._by_name.get(("before", authenticator, ""))) is not None
        )

    def hold(self, principal: Principal) -> bool:
        """Say whether a credential that was otherwise good is revoked."""
        return bool(self._by_name) and self._any(principal)

    def _any(self, principal: Principal) -> bool:
        now = self._clock.now()
        token = principal.claims.get("jti")
        names = [("before", ""), ("subject", principal.subject)]
        if isinstance(token, str):
            names.append(("token", token))
        return any(
            found is not None and now < found.until and _covers(found, principal)
            for kind, name in names
            for authenticator in ("", principal.authenticator)
            if (found := self._by_name.get((kind, authenticator, name))) is not None
        )


def _both(one: Revocation, other: Revocation) -> Revocation:
    return replace(
        one,
        before=max(one.before, other.before),
        at=max(one.at, other.at),
        until=max(one.until, other.until),
    )


def _covers(revocation: Revocation, principal: Principal) -> bool:
    """Say whether a revocation is about this credential, by when it was issued.

    Where the issuer's clock may be ahead of ours, so may the token be that was there already.
    A token that doesn't say when it was issued may be an old one. Keys, passwords and
    certificates have no such moment: all of a subject's are revoked, and none by `before`.
    """
    if revocation.token:
        return True
    if principal.kind not in _MOMENTS:
        return bool(revocation.subject)
    issued = principal.claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return True
    return issued <= (revocation.before or revocation.at) + principal.ahead
