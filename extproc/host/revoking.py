"""Revoking while the gateway runs: written down first, then in force in every worker."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from extproc.adapters.revocation_file import RevocationFile
from extproc.config.units import duration
from extproc.core.revocation import LONGEST, BadRevocation, Revocation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from extproc.config.load import Loaded
    from extproc.host.crew import Crew

_TOKENS_FOR = 30 * 86_400.0
_KEYS = frozenset({"token", "subject", "before", "authenticator", "for"})


def revocations_file(loaded: Loaded, folder: Path) -> Path:
    """Return where revocations are: what the gateway file says, else in the runtime folder."""
    named = loaded.gateway.revocations.file
    return loaded.folder / named if named is not None else folder / "revocations.jsonl"


class Revoking:
    """Takes revocations from an operator.

    Raises:
        BadRevocation, OSError: the file can't be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = RevocationFile(file)
        self.count = self._file.open(time.time())

    async def revoke(self, said: Mapping[str, Any], crew: Crew) -> dict[str, Any]:
        """Revoke what an operator says; when this returns, every worker refuses it.

        Args:
            said: one of `token`, `subject`, `before` (a moment, or `now`); `authenticator`; `for`.
            crew: whose workers refuse it.

        Raises:
            BadRevocation: it can't be understood.
            OSError: it can't be written down.
        """
        revocation = _understood(said, time.time())
        self._file.append(revocation)
        self.count += 1
        await crew.follow_revocations()
        until = datetime.fromtimestamp(revocation.until, UTC).isoformat(timespec="seconds")
        return {"ok": True, "until": until}


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
