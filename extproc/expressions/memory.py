"""What pure functions of a request gave, for the requests that are alike to them."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from extproc.core.principal import Principal
    from extproc.core.values import Request

T = TypeVar("T")

# What an expression may read for its values to be remembered: what few requests differ in.
# Never time, ids, addresses, paths and maps of what a client sent.
_FEW = frozenset({"request.method", "request.scheme", "request.host", "request.route", "consumer"})
_REMEMBERED = 1024
_LONGEST_HOST = 255


class Memory(Generic[T]):
    """Remembers what a pure function of few names gave, for each combination of their values.

    Attributes:
        applies: all names are such that remembering pays; else nothing may be asked.
    """

    def __init__(self, names: Iterable[str]) -> None:
        few = sorted({name for name in names if not name.startswith("principal.")})
        self.applies = _FEW.issuperset(few)
        self._few = tuple(attrgetter(name.removeprefix("request.")) for name in few)
        self._known: dict[Any, tuple[Principal, T]] = {}

    def get(self, request: Request) -> T | None:
        """Return what was remembered."""
        known = self._known.get(self._key(request) if self._few else id(request.principal))
        return None if known is None else known[1]

    def put(self, request: Request, value: T) -> T:
        """Remember a value, which nobody may change from now on."""
        if len(request.host) > _LONGEST_HOST:
            return value  # what clients choose is remembered only where it is short
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        # The entry holds the principal, so its id can't become another's.
        self._known[self._key(request)] = (request.principal, value)
        return value

    def _key(self, request: Request) -> Any:
        few = self._few
        if not few:
            return id(request.principal)
        return (id(request.principal), *[get(request) for get in few])
