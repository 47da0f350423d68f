"""A request's body as policies may read it: JSON that the upstream can't read in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.core import strict_json
from extproc.core.strict_json import NotStrict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.values import Request
    from extproc.expressions.conditions import Condition

_BODY = "request.body"
_EXACT = 1 << 53  # beyond it not every integer is a float of 64 bits (RFC 8259 section 6)
_HOLDING = frozenset({dict, list})


class WrongBody(ValueError):
    """The body can't be judged.

    Attributes:
        status: 400, 413 or 415.
        reason: from the documented list.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Read:
    """Which members of a body conditions read, as far as that stands in them.

    What stands behind a dot, or as text in brackets or before `in`, may name one, and so may a text
    with which a loop over the body compares what it goes through. Where a name is
    computed, it may be any. Where the body isn't read by members alone, what a list that it is
    holds is read as well.
    """

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self._names: set[str] = set()
        self._any = self._itself = False
        for condition in conditions:
            if _BODY in condition.expression.names:
                reads = condition.expression.reads
                self._names |= reads.members | reads.compared(_BODY)
                self._any |= reads.computes
                self._itself |= reads.keys(_BODY) is None
        self._folded = {name.casefold() for name in self._names}

    @property
    def anything(self) -> bool:
        """Say whether they read any; else nothing is to be checked."""
        return self._any or self._itself or bool(self._names)

    def check(self, value: Any) -> None:
        """Refuse what other readers of the body may take for another value of such a member.

        Some take `Admin` for `admin`, and some read numbers as floats of 64 bits.

        Args:
            value: the body.

        Raises:
            NotStrict: there is something of that kind.
        """
        names, folded, every = self._names, self._folded, self._any
        # Lists and maps, each with whether what it holds is read.
        waiting: list[tuple[Any, bool]] = [([value], self._itself)]
        while waiting:
            value, read = waiting.pop()
            if type(value) is list:
                self._numbers(value, read=read)
                waiting += [(one, read) for one in value if one and type(one) in _HOLDING]
                continue
            for name, inside in value.items():
                if name not in names and name.casefold() in folded:
                    raise NotStrict("a member that is judged is there in other capitals")
                kind = type(inside)
                if kind in _HOLDING:
                    if inside:
                        waiting.append((inside, every or name in names))
                elif kind is int and (every or name in names):
                    self._numbers([inside], read=True)

    def _numbers(self, values: list[Any], *, read: bool) -> None:
        # A body may be a list of half a million, of which few kinds need a look at each.
        if read and int in set(map(type, values)):
            for value in values:
                if type(value) is int and abs(value) > _EXACT:
                    raise NotStrict("it holds a number that readers take differently (over 2^53)")


def body_of(request: Request, body: bytes, read: Read) -> Any:
    """Return the value of a request's body; None where there is none.

    Args:
        request: the request.
        body: its bytes.
        read: what of it is judged.

    Raises:
        WrongBody: it isn't JSON, isn't said to be JSON, or is encoded or cut; or others may take
            for something else what is judged.
    """
    headers = request.headers
    # ext_authz tells of a body that was cut, and leaves out one it wasn't told to send.
    cut = headers.get("x-envoy-auth-partial-body") == "true"
    if cut or (not body and (headers.get("content-length") or "0") != "0"):
        raise WrongBody(413, "body_cut", "The body is larger than what is judged.")
    if not body:
        return None
    if not strict_json.says_json(headers.get_all("content-type")):
        raise WrongBody(415, "body_type", "The content type isn't JSON in UTF-8.")
    if strict_json.is_encoded(headers.get_all("content-encoding")):
        raise WrongBody(415, "body_type", "An encoded body can't be judged.")
    try:
        value = strict_json.read(body, fold=True)
        if read.anything:
            read.check(value)
    except NotStrict as error:
        raise WrongBody(400, "malformed_body", f"The body can't be judged: {error}.") from error
    return value
