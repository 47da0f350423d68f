"""What has come of a part so far, and the calls that make it up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from extproc.aggregation.failures import Unusable
from extproc.aggregation.joins import KEY, KEYS, OWN, all_are_keys, chunks, joined, keys_of
from extproc.core.errors import UpstreamFault
from extproc.expressions.conditions import Context
from extproc.expressions.metered import Allowance
from extproc.expressions.projections import key_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.aggregation.budget import Gate
    from extproc.aggregation.calls import Call
    from extproc.aggregation.joins import Items, Key
    from extproc.aggregation.requests import Outgoing
    from extproc.core.answered import Answered, Outstanding
    from extproc.core.values import Request
    from extproc.expressions.templates import NoValue


_OF_KEY = frozenset({KEY})


class PartState:
    """What has come of one part so far."""

    __slots__ = ("call", "failed", "failure", "items", "keys", "made", "open", "outcome")

    def __init__(self, call: Call, keys: list[Key] | None) -> None:
        self.call = call
        self.keys = keys
        self.items: Items = {}
        self.open = 0
        self.made = 0
        self.failed = False
        self.failure: Unusable | None = None  # of the call for which its fallback stands in
        self.outcome = ""  # nothing has come of it yet

    def cut(self, value: Any, calls: int) -> list[Leg]:
        """Return the calls for the keys among a value: one for each key, or for each chunk.

        Args:
            value: a list, or one key.
            calls: how many may be made; of more, the one that is too many is the last.

        Raises:
            Unusable: there are more, and the answer fails without them; or a client means
                something to be changed that no key names. None is made.
        """
        call = self.call
        if call.changes and call.keys_of_client and not all_are_keys(value):
            raise Unusable("shape", unfit=True)
        size = 1 if call.batch is None else call.batch.size
        self.keys = keys_of(value, calls * size + 1)
        legs = [Leg(self, call, keys) for keys in chunks(self.keys, size)]
        if len(legs) > calls and call.required:
            raise Unusable("too_many_calls", unfit=call.keys_of_client)
        return legs

    def came(self, source: str) -> None:
        """Take note of where an answer came from: of a list's, where it is the same for all.

        Args:
            source: as in `Answered`; empty for the upstream.
        """
        told = "ok" if source in {"", "miss"} else source
        if not self.failed or self.keys is None:
            self.outcome = told if self.outcome in {"", told} else "ok"

    def gather(self, keys: list[Key], value: Any) -> None:
        """Take what came for keys.

        Raises:
            NotJoinable: the items can't be told apart.
        """
        if self.call.batch is None:
            self.items[key_text(keys[0])] = value
        else:
            self.items |= joined(self.call.batch, keys, value)

    def noted(self) -> dict[str, Any]:
        """Return what a decision record holds of the part."""
        call = self.call
        note = {"part": call.part, "upstream": call.upstream, "outcome": self.outcome or "ok"}
        return note if call.each is None else note | {"calls": self.made}

    def note(self, request: Request) -> None:
        """Put the part into the decision record of a request."""
        facts = request.facts
        if facts.calls is None:
            facts.calls = []
        facts.calls.append(self.noted())

    def whole(self) -> Any:
        """Return the part once its calls have ended: the default where nothing at all came."""
        if self.failed and not self.items and self.call.default is not None:
            return self.call.default
        return self.aligned()

    def aligned(self) -> list[Any]:
        """Return the items in the keys' order, null where there is none."""
        return [self.items.get(key_text(key)) for key in self.keys or ()]


class Leg:
    """One call of a part: the only one, or that of a chunk of keys."""

    __slots__ = ("call", "gate", "keys", "part", "ready")

    def __init__(self, part: PartState, call: Call, keys: list[Key] | None) -> None:
        self.part = part
        self.call = call
        self.keys = keys
        self.gate: Gate | None = None
        self.ready: Outgoing | None = None  # what it sends, where that was made ahead

    def leave_gate(self) -> None:
        """Make room before the upstream for the next one, if it took any."""
        if self.gate is not None:
            self.gate.leave()
            self.gate = None

    def context(self, known: Context, parts: Mapping[str, Any]) -> Context:
        """Return what its templates are filled in from: with the keys, where it is for some."""
        if self.keys is None:
            return known
        with_keys = {**parts, KEYS: self.keys, KEY: self.keys[0]}
        return replace(known, parts=with_keys, own=OWN)

    def is_given_by(self, ended: Outstanding) -> bool:
        """Say whether an equal call that ended gave what this one is for."""
        if ended.exception() is not None:
            return False
        try:
            self.call.kind.read(ended.result())
        except Unusable:
            return False
        return True

    def leads_nowhere(self, error: NoValue) -> bool:
        """Say whether no path leads to the key, such as `..`: of it there is nothing, as for 404.

        Where the call changes something, that it can't be made is a failure.
        """
        one = self.keys is not None and self.call.batch is None
        return one and error.names == _OF_KEY and not self.call.may_change


def context_of(request: Request, now: float, parts: Mapping[str, Any], body: Any) -> Context:
    """Return what the templates of all calls are filled in from.

    Args:
        request: what came.
        now: seconds since the epoch.
        parts: by name, as they come.
        body: the request's, where calls read it.
    """
    # Parts never change once they are there, nor do the request and the time.
    return Context(request, now, None, parts, body, known={}, allowance=Allowance())


def outcome_of(fault: BaseException | None, answer: Answered | None) -> str:
    """Return what became of one call, for the metric."""
    if isinstance(fault, UpstreamFault):
        return fault.reason
    if answer is not None and answer.source and answer.source != "miss":
        return answer.source
    return "ok"
