"""A circuit breaker for one plugin, as a small state machine over times that are handed in."""

from __future__ import annotations

FAILURES_TO_OPEN = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Breaker:
    """Closed: all pass. Open: none. After the pause one trial passes; it decides.

    Each opening in a row doubles the pause, from 1 s to 30 s. Only failures that hold
    resources (hanging, blocking) are told to the breaker: refusing is as dear as raising.

    Attributes:
        until: the moment of the next trial; None while closed.
        trial: one trial call runs.
    """

    __slots__ = ("_failures", "_pause", "trial", "until")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self.until: float | None = None
        self.trial = False

    def admit(self, now: float) -> bool:
        """Say whether a call may start; when open and paused long enough, one trial may."""
        if self.until is None:
            return True
        if self.trial or now < self.until:
            return False
        self.trial = True
        return True

    def retry_after(self, now: float) -> int:
        """Return whole seconds, at least 1, until a trial."""
        return max(1, round((self.until or now) - now))

    def succeeded(self) -> None:
        """Record a call that ended in time."""
        self._failures = 0
        if self.trial:
            self.until, self._pause, self.trial = None, FIRST_PAUSE, False

    def failed(self, now: float, *, at_once: bool = False) -> None:
        """Record a call that hung; opens after five in a row, or at once."""
        self._failures += 1
        if self.trial:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self.trial or at_once or self._failures >= FAILURES_TO_OPEN:
            self.until, self.trial, self._failures = now + self._pause, False, 0

    def abandoned(self) -> None:
        """Record a trial that ended without a result, by a disconnect."""
        self.trial = False
