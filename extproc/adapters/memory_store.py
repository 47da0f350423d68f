"""The embedded store: a bounded map of one worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.core.ports import Clock

_OVERHEAD = 200  # bytes an entry costs beside its key and value, roughly


class MemoryStore:
    """Keeps at most `max_bytes`; the least recently used goes first."""

    def __init__(self, clock: Clock, max_bytes: int = 64 << 20) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._entries: dict[str, tuple[bytes, float]] = {}
        self.size = 0

    def get(self, key: str) -> bytes | None:
        """Return the value, or None if it is absent or expired."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if self._clock.monotonic() >= entry[1]:
            self.size -= _cost(key, entry[0])
            return None
        self._entries[key] = entry  # last in order: used most recently
        return entry[0]

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most; one larger than the store isn't kept."""
        self.delete(key)
        cost = _cost(key, value)
        if cost > self._max_bytes:
            return
        while self.size + cost > self._max_bytes:
            self.delete(next(iter(self._entries)))
        self._entries[key] = (value, self._clock.monotonic() + ttl)
        self.size += cost

    def delete(self, key: str) -> None:
        """Forget a value."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= _cost(key, entry[0])


def _cost(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD
