"""The Cache-Status field (RFC 9211): what this cache did with a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extproc.core.headers import Headers

NAME = "extproc"


def say(headers: Headers, said: str) -> None:
    """Say what this cache did, after what caches nearer to the upstream did (section 2)."""
    others = headers.get("cache-status")
    headers["cache-status"] = f"{others}, {said}" if others else said


def correct(headers: Headers, said: str) -> None:
    """Say something else in place of what `say` said, unless that was taken out since."""
    known = headers.get("cache-status")
    if known is not None:
        others = known.rpartition(", ")[0]
        headers["cache-status"] = f"{others}, {said}" if others else said


def hit(left: float) -> str:
    """Return the field of an answer out of the store.

    Args:
        left: seconds that it stays fresh; negative for how long it has been stale.
    """
    return f"{NAME}; hit; ttl={int(left // 1)}"


def stood_in(why: str, status: int, left: float) -> str:
    """Return the field of an answer out of the store in place of one that the upstream gave.

    The request went forward, so it isn't a hit (section 2.1).

    Args:
        why: as of `forwarded`.
        status: of the upstream.
        left: as of `hit`.
    """
    return f"{NAME}; fwd={why}; fwd-status={status}; ttl={int(left // 1)}; detail=stale-if-error"


def not_stored() -> str:
    """Return the field of the 504 that says that nothing stored fits, and nobody was asked."""
    return f"{NAME}; detail=only-if-cached"


def forwarded(
    why: str, *, status: int = 0, stored: bool = False, collapsed: bool = False, detail: str = ""
) -> str:
    """Return the field of an answer that the upstream gave.

    Args:
        why: `uri-miss`, `vary-miss`, `stale`, `request`, `method`, `bypass` or `partial`.
        status: of the upstream, where the client gets another.
        stored: the answer is stored.
        collapsed: the request waited for another's answer.
        detail: why it isn't stored, as a token.
    """
    parts = [NAME, f"fwd={why}"]
    if status:
        parts.append(f"fwd-status={status}")
    if stored:
        parts.append("stored")
    if collapsed:
        parts.append("collapsed")
    if detail:
        parts.append(f"detail={detail}")
    return "; ".join(parts)
