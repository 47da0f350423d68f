"""Exchanges that go on after they were judged, such as WebSockets: none outlives its credential."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from extproc.core.principal import Principal
    from extproc.core.values import Request


class Lasting:
    """The lasting exchanges of one worker; call `sweep` now and then.

    Args:
        revoked: says whether a principal's credential is no longer good.

    Attributes:
        listed: the subjects that files of keys and users list now, by authenticator: whoever was
            taken out has no credential any more.
    """

    def __init__(self, revoked: Callable[[Principal], bool]) -> None:
        self._revoked = revoked
        self._open: dict[Request, float | None] = {}
        self.listed: Mapping[str, Container[str]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def add(self, request: Request) -> None:
        """Watch an exchange until it ends; of several credentials the first to end counts."""
        moments = [_end_of(principal) for principal in (request.principal, *request.beside)]
        self._open[request] = min([one for one in moments if one is not None], default=None)
        request.at_end(lambda: self._open.pop(request, None))

    def sweep(self, now: float) -> int:
        """End those whose credential has expired, was revoked or was taken out of its file.

        Args:
            now: seconds since the epoch.

        Returns:
            How many were ended.
        """
        over = [
            request
            for request, expires in self._open.items()
            if (expires is not None and expires <= now)
            or any(map(self._is_gone, (request.principal, *request.beside)))
        ]
        for request in over:
            del self._open[request]
            if request.cut is not None:
                request.cut()
        return len(over)

    def _is_gone(self, principal: Principal) -> bool:
        listed = self.listed.get(principal.authenticator)
        taken_out = listed is not None and principal.subject not in listed
        return taken_out or self._revoked(principal)


def _end_of(principal: Principal) -> float | None:
    """Return when a credential ends, seconds since the epoch; None where it doesn't say."""
    expires = principal.claims.get("exp") if principal.expires is None else principal.expires
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    return expires
