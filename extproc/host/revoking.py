"""Revoking while the gateway runs: written down first, then in force in every worker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from extproc.adapters.redis_revocations import NotShared, RedisRevocations
from extproc.adapters.revocation_file import RevocationFile
from extproc.adapters.system import SystemClock
from extproc.config.units import duration
from extproc.core.revocation import LONGEST, BadRevocation, Revocation, Revoked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from extproc.config.load import Loaded
    from extproc.core.ports import Log
    from extproc.host.crew import Crew

_LOOK_EVERY = 0.25
_TRIES = 8
_TOKENS_FOR = 30 * 86_400.0
_KEYS = frozenset({"token", "subject", "before", "authenticator", "for"})


def revocations_file(loaded: Loaded, folder: Path) -> Path:
    """Return where revocations are: what the gateway file says, else in the runtime folder."""
    named = loaded.gateway.revocations.file
    # As the gateway file was named: what a link leads to may be another folder at the next start.
    return loaded.path.parent / named if named is not None else folder / "revocations.jsonl"


class Revoking:
    """Takes revocations from an operator, and from other replicas where they share a store.

    Args:
        loaded: the gateway file.
        folder: the runtime folder.
        log: where trouble with the store goes.

    Raises:
        BadRevocation, OSError: the file can't be used.
    """

    def __init__(self, loaded: Loaded, folder: Path, log: Log) -> None:
        self.path = revocations_file(loaded, folder)
        self._file = RevocationFile(self.path)
        self._known = set(self._file.open(time.time()))
        # As the workers hold them: what they couldn't take isn't written down.
        self._revoked = Revoked(SystemClock())
        for one in sorted(self._known, key=_widest_first):
            self._revoked.add(one)
        self._unsaid: list[Revocation] = list(self._known)
        self._heard: list[Revocation] = []  # of other replicas; not in force yet
        store = loaded.gateway.shared_store
        self._shared = RedisRevocations(store, log) if store is not None else None
        self._log = log
        self.well = True
        self._mended = True

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self._known)

    @property
    def shares(self) -> bool | None:
        """Say whether other replicas are told and heard; None where there is nothing to share."""
        return None if self._shared is None else self.well

    async def revoke(
        self, said: Mapping[str, Any], crew: Crew, authenticators: Collection[str]
    ) -> dict[str, Any]:
        """Revoke what an operator says; when this returns, every worker refuses it.

        Args:
            said: one of `token`, `subject`, `before` (a moment, or `now`); `authenticator`; `for`.
            crew: whose workers refuse it.
            authenticators: those there are; one that isn't among them accepts nothing.

        Returns:
            Until when it holds; with a shared store, whether other replicas are told.

        Raises:
            BadRevocation: it can't be understood, or there are too many.
            OSError: it can't be written down.
        """
        revocation = _understood(said, time.time())
        if revocation.authenticator and revocation.authenticator not in authenticators:
            problem = f"`authenticator` {revocation.authenticator!r} isn't one of this gateway's"
            raise BadRevocation(f"{problem}, expected one of {', '.join(sorted(authenticators))}")
        await self._keep([revocation], crew)
        until = datetime.fromtimestamp(revocation.until, UTC).isoformat(timespec="seconds")
        answer: dict[str, Any] = {"ok": True, "until": until}
        if self._shared is not None:
            self._unsaid.append(revocation)
            answer["shared"] = not await self._say()
        return answer

    async def _keep(self, revocations: Sequence[Revocation], crew: Crew) -> None:
        fresh = [one for one in sorted(revocations, key=_widest_first) if one not in self._known]
        try:
            for one in fresh:
                self._revoked.add(one)
                self._file.append(one)
                self._known.add(one)
        finally:
            if fresh:
                await crew.follow_revocations()

    async def _say(self) -> str:
        """Tell other replicas what they weren't told; what fails is said at the next look.

        Returns:
            Why they can't be told; empty where all is said.
        """
        assert self._shared is not None  # noqa: S101 - the callers looked
        try:
            while self._unsaid:
                first = self._unsaid[0]
                await self._shared.add([first])
                if first in self._unsaid:  # a look may have found it there already
                    self._unsaid.remove(first)
        except NotShared as error:
            return str(error)
        return ""

    async def follow(self, crew: Crew) -> None:
        """Put in force what other replicas revoke, and keep the file, for as long as this runs."""
        while True:
            await self.look(crew)
            self._mend()
            await asyncio.sleep(_LOOK_EVERY)

    def _mend(self) -> None:
        """Write the file again if somebody else changed it; say so, and once that it can't be."""
        try:
            if self._file.mend():
                self._log.warning("the revocations file was changed, and is written again")
            self._mended = True
        except OSError as error:
            if self._mended:
                self._log.error("the revocations file can't be written again", error=str(error))
            self._mended = False

    async def close(self) -> None:
        """Close the connections to what is shared."""
        if self._shared is not None:
            await self._shared.close()

    async def begin(self, crew: Crew) -> None:
        """Know what other replicas revoked before anybody is served; Redis has some seconds."""
        for _ in range(_TRIES):
            await self.look(crew)
            if self.well:
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def look(self, crew: Crew) -> None:
        """Look once."""
        if self._shared is None:
            return
        try:
            fresh, flushed = await self._shared.fresh(time.time())
        except NotShared as error:
            self._note(well=False, error=str(error))
            return
        heard, self._heard = [*self._heard, *fresh], []  # the stream tells them once
        self._unsaid = [one for one in self._unsaid if one not in fresh]
        if flushed:
            now = time.time()
            self._unsaid = [o for o in self._known if o not in fresh and o.until > now]
        try:
            await self._keep(heard, crew)
        except (BadRevocation, OSError) as error:
            self._heard = heard + self._heard
            self._note(well=False, error=f"what others revoked can't be kept: {error}")
            return
        why = await self._say()
        self._note(well=not why, error=why)

    def _note(self, *, well: bool, error: str = "") -> None:
        if well is not self.well:
            self.well = well
            if well:
                self._log.info("revocations are shared again")
            else:
                self._log.error("revocations aren't shared; known ones stay in force", error=error)


def _widest_first(revocation: Revocation) -> bool:
    """Order: first what takes the place of others."""
    return not revocation.before


def _understood(said: Mapping[str, Any], now: float) -> Revocation:
    unknown = set(said) - _KEYS
    if unknown or not all(isinstance(value, str) for value in said.values()):
        raise BadRevocation(f"expected texts under {', '.join(sorted(_KEYS))}")
    before = _moment(said["before"], now) if "before" in said else 0.0
    usual = _TOKENS_FOR if said.get("token") else LONGEST
    try:
        seconds = duration(said["for"]) if "for" in said else usual
    except ValueError as error:
        raise BadRevocation(f"`for` {error}") from error
    return Revocation(
        said.get("token", ""),
        said.get("subject", ""),
        before,
        said.get("authenticator", ""),
        now,
        now + min(seconds, LONGEST),
    )


def _moment(text: str, now: float) -> float:
    """Read a moment of the past; one that lies ahead would refuse tokens that don't exist yet."""
    if text == "now":
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRevocation("`before` is no moment such as 2027-01-31T00:00:00Z") from error
    seconds = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 < seconds <= now:
        raise BadRevocation("`before` lies ahead")
    return seconds
