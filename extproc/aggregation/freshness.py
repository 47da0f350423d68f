"""How long a composed answer is fresh: no longer than any of its parts (RFC 9111 section 4.2)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.core.headers import Headers
    from extproc.core.ports import Answered

_SAYING = ("cache-control", "expires", "set-cookie")
_LONGEST = 2**31  # RFC 9111 section 1.2.2


class Freshness:
    """Gathers what the parts say.

    Args:
        ttl: seconds, for parts that say nothing; None where nothing stands in for that.

    Attributes:
        whole: nothing was missing, nothing stale: it may be stored as complete.
        tags: of all parts, each once.
    """

    def __init__(self, ttl: float | None) -> None:
        self._ttl = ttl
        self._least: float | None = None
        self._unknown = False
        self._forbids: set[str] = set()
        self.whole = True
        self.tags: dict[str, None] = {}

    def took(self, answer: Answered, now: float) -> None:
        """Take note of one part's answer."""
        self.named(answer)
        if not answer.lifetime and not answer.stale and not answer.headers.has_any(_SAYING):
            self._lasts(self._ttl)
            return
        said = directives(answer.headers)
        self._forbids |= {"no-store", "private", "no-cache"} & said.keys()
        if "set-cookie" in answer.headers:
            self._forbids.add("private")
        if answer.stale:
            self.whole = False
            return
        lifetime = answer.lifetime if answer.lifetime > 0 else explicit(answer.headers, said, now)
        self._lasts(self._ttl if lifetime is None else lifetime)

    def named(self, answer: Answered) -> None:
        """Take note of the names of what is part of the answer, or isn't there to be."""
        if answer.tags:
            self.tags.update(dict.fromkeys(answer.tags))

    def _lasts(self, lifetime: float | None) -> None:
        if lifetime is None:
            self._unknown = True
        elif self._least is None or lifetime < self._least:
            self._least = lifetime

    def unsafe(self) -> None:
        """Take note of a call that may have changed something: the answer is for this request."""
        self._forbids.add("no-store")

    def control(self, *, private: bool) -> str | None:
        """Return `Cache-Control`; None where the parts say nothing.

        Args:
            private: the answer is for one principal, and whoever stores it doesn't know that.
        """
        if not self.whole or "no-store" in self._forbids:
            return "no-store"
        parts = ["private"] if private or "private" in self._forbids else []
        if "no-cache" in self._forbids:
            parts.append("no-cache")
        elif self._least is not None and not self._unknown:
            parts.append(f"max-age={int(self._least)}")
        return ", ".join(parts) or None


def explicit(headers: Headers, said: dict[str, str], now: float) -> float | None:
    """Return the lifetime that an answer names, less its age; None where it names none."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            return max(_seconds(said[name]) - _seconds(headers.get("age") or "0"), 0.0)
    expires = headers.get("expires")
    if expires is None:
        return None
    try:
        moment = parsedate_to_datetime(expires).timestamp()
        date = headers.get("date")
        begins = parsedate_to_datetime(date).timestamp() if date else now
    except (TypeError, ValueError):
        return 0.0  # what can't be read has expired (RFC 9111 section 5.3)
    return max(moment - begins, 0.0)


def directives(headers: Headers) -> dict[str, str]:
    """Read Cache-Control (RFC 9111 section 5.2); the first of each counts."""
    found: dict[str, str] = {}
    for part in (headers.get("cache-control") or "").split(","):
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name.lower(), value.strip('"'))
    return found


def _seconds(text: str) -> float:
    return float(min(int(text), _LONGEST)) if text.isascii() and text.isdigit() else 0.0
