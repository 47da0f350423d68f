"""The keys under which upstreams know calls that change something (Idempotency-Key, a draft).

A client's retry must have each upstream see the same key for the same change, and another key for
another change at the same place. So the client's goes along as it is, except where calls of one
upstream may go to one place: there the part and the items that a call is about are added, and
nothing that differs between two tries, such as a position.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from extproc.aggregation.calls import SAFE
from extproc.expressions.projections import key_text, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from extproc.aggregation.calls import Call
    from extproc.aggregation.joins import Key

HEADER = "idempotency-key"
_SHORT = re.compile(r"[A-Za-z0-9._~-]{1,64}\Z")
_DIGITS = 24
_HOLE = "\0"  # no path has one


def key_of(given: str, calls: Iterable[Call], call: Call, keys: Sequence[Key] | None) -> str:
    """Return one call's key.

    Args:
        given: the client's.
        calls: the aggregation's, each with its fallback.
        call: the one that is made.
        keys: of the items that it is about; None for a call without `each`.

    Returns:
        The client's own where only this call can go where it goes.
    """
    alike = [one for one in _unsafe(calls) if _may_meet(one, call)]
    if keys is None and len(alike) == 1:
        return given
    named = [given, call.part]
    if not any(call is one for one in calls):
        named.append("fallback")
    if keys is not None:
        named.append(_about(keys))
    return "-".join(named)


def _unsafe(calls: Iterable[Call]) -> Iterator[Call]:
    for call in calls:
        for one in (call, call.fallback):
            if one is not None and one.method not in SAFE:
                yield one


def _may_meet(one: Call, other: Call) -> bool:
    """Say whether two calls may go to one place: a segment with a hole may be any."""
    if one.upstream != other.upstream:
        return False
    ours, theirs = _segments(one), _segments(other)
    return len(ours) == len(theirs) and all(
        _HOLE in mine or _HOLE in its or mine == its for mine, its in zip(ours, theirs, strict=True)
    )


def _segments(call: Call) -> list[str]:
    """Return those of the path; no hole holds a slash or a question mark."""
    path = [piece if isinstance(piece, str) else _HOLE for piece in call.path.pieces]
    return "".join(path).partition("?")[0].split("/")


def _about(keys: Sequence[Key]) -> str:
    text = key_text(keys[0])
    if len(keys) == 1 and _SHORT.match(text):
        return text
    return hashlib.sha256(written(list(keys))).hexdigest()[:_DIGITS]
