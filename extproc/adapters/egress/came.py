"""The headers of an answer to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.headers import Headers, gathered

if TYPE_CHECKING:
    from extproc.adapters.http2.replies import Head


class Came(Headers):
    """An answer's headers as they came; put into order when somebody asks for one."""

    _complete = False

    def __init__(self, head: Head) -> None:
        self._head = head
        self._values = {}

    def received_all(self, name: str) -> list[str]:
        """Return the values of a name in lower case, in order."""
        return [value for known, value in self._head.fields if known == name]

    def has_any(self, names: tuple[str, ...]) -> bool:
        """Say whether one of these names is there."""
        if self._values:
            return super().has_any(names)
        return not self._head.names.isdisjoint(names)

    def _all(self) -> dict[str, list[str]]:
        if not self._complete:
            known = self._values
            self._values = gathered(self._head.fields)
            self._values.update(known)
            self._complete = True
        return self._values
