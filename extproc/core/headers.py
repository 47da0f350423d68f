"""Headers as plugins see them: a multi-map that records what was changed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.core.messages import Continue

OF_CONNECTION = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What a request says of its framing, or to the next neighbour alone (RFC 9110 section 7.6.1)."""

# RFC 9110 section 5.1 (token) and 5.5 (field values; obs-text is kept as latin-1).
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


class Changes:
    """What a recorder saw: names to remove, and names with the values they have now.

    Envoy removes before it sets, so the two lists can be applied in one answer.
    """

    __slots__ = ("answers", "remove", "set")

    def __init__(
        self, remove: tuple[str, ...], set_: tuple[tuple[str, tuple[str, ...]], ...]
    ) -> None:
        self.remove = remove
        self.set = set_
        # Where one object serves many requests: by route the answer that makes these changes.
        self.answers: dict[str, Continue] | None = None

    def __bool__(self) -> bool:
        """Say whether anything changes."""
        return bool(self.remove or self.set)


class Written:
    """Headers that are written alike for many requests: checked once.

    Args:
        pairs: names, each with its one value, or None to have none.

    Raises:
        ValueError: as for writing a header.
    """

    __slots__ = ("changes", "pairs", "touched")

    def __init__(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        self.pairs = tuple(
            [
                (key := _checked_name(name), None if value is None else _checked_value(key, value))
                for name, value in pairs
            ]
        )
        self.touched = dict.fromkeys([name for name, _ in self.pairs])
        self.changes = Changes(
            tuple([name for name, value in self.pairs if value is None]),
            tuple([(name, (value,)) for name, value in self.pairs if value is not None]),
        )
        self.changes.answers = {}


class Headers:
    """A case-insensitive multi-map of text; reading sees every earlier change.

    Names are kept in lower case (HTTP/2's form). Values are text whose characters are bytes
    (latin-1), so whatever a peer sent survives unchanged.

    Raises:
        ValueError: on writing a name that is no token, or a value that holds a control
            character or a character outside latin-1 (RFC 9110 section 5.5).
    """

    _touched: dict[str, None] | None = None
    _whole: Changes | None = None  # all that was touched, where it was written at once

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Hold pairs (names in lower case)."""
        # An empty list is a name that is known to be absent.
        self._values: dict[str, list[str]] = gathered(pairs)

    def _find(self, name: str) -> list[str]:
        known = self._values
        values = known.get(name)
        if values is None:
            key = name.lower()
            values = known.get(key) if key != name else None
            if values is None:
                values = known[key] = self.received_all(key)
        return values

    def _all(self) -> dict[str, list[str]]:
        """Return every header; a subclass that reads them one by one reads the rest."""
        return self._values

    def received_all(self, name: str) -> list[str]:
        """Return a header's values as they came, where a subclass knows; else none."""
        del name
        return []

    def received(self, name: str) -> str:
        """Return a header's value as it came, the last of several, whatever was written since.

        Empty where it is absent.
        """
        values = self.received_all(name)
        return values[-1] if values else ""

    def request_id(self) -> str:
        """Return `x-request-id` as it came; empty where it is absent."""
        return self.received("x-request-id")

    def _touch(self, key: str) -> None:
        self._whole = None
        if self._touched is None:
            self._touched = {}
        self._touched[key] = None

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value; repeated headers joined by `, ` (RFC 9110 section 5.3)."""
        values = self._find(name)
        if not values:
            return default
        return values[0] if len(values) == 1 else ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Return each value of a header, in order; empty if absent."""
        return list(self._find(name))

    def add(self, name: str, value: str) -> None:
        """Add one more value beside those there are."""
        key = _checked_name(name)
        self._find(key).append(_checked_value(key, value))
        self._touch(key)

    def __getitem__(self, name: str) -> str:
        """Return the value, or raise KeyError."""
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        """Replace every value by one."""
        key = _checked_name(name)
        self._values[key] = [_checked_value(key, value)]
        self._touch(key)

    def put(self, written: Written) -> None:
        """Write all of these, in place of what there is."""
        values = self._values
        for name, value in written.pairs:
            values[name] = [] if value is None else [value]
        if self._touched is None:
            self._touched, self._whole = written.touched.copy(), written.changes
        else:
            self._touched |= written.touched
            self._whole = None

    def __delitem__(self, name: str) -> None:
        """Remove a header; removing an absent one is no error."""
        if self._find(name):
            key = name.lower()
            self._values[key] = []
            self._touch(key)

    def __contains__(self, name: object) -> bool:
        """Say whether the header is there."""
        return isinstance(name, str) and bool(self._find(name))

    def has_any(self, names: tuple[str, ...]) -> bool:
        """Say whether any of these headers (names in lower case) is there; cheaper than each."""
        return any(self._find(name) for name in names)

    def written(self) -> list[tuple[str, list[str]]]:
        """Return the headers that were written so far, with the values they have now."""
        return [(name, list(self._values[name])) for name in sorted(self._touched or ())]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, each once."""
        return iter([name for name, values in self._all().items() if values])

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(map(bool, self._all().values()))

    def items(self) -> Iterator[tuple[str, str]]:
        """Iterate over (name, value) with one item per value."""
        for name, values in self._all().items():
            for value in values:
                yield name, value

    def joined(self) -> dict[str, str]:
        """Return a map of each name to its joined value, as expressions see it."""
        return {name: ", ".join(values) for name, values in self._all().items() if values}

    def changes(self) -> Changes | None:
        """Return what was written since the last call, and forget it; None for nothing."""
        if not self._touched:
            return None
        touched, self._touched = self._touched, None
        whole, self._whole = self._whole, None
        if whole is not None:
            return whole
        remove, keep = [], []
        for name in touched:
            values = self._values[name]
            if values:
                keep.append((name, tuple(values)))
            else:
                remove.append(name)
        return Changes(tuple(remove), tuple(keep))

    def __repr__(self) -> str:
        """Show names only: values may be credentials."""
        return f"Headers({', '.join(self)})"


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Put the values of each name together, in order."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        known = values.get(name)
        if known is None:
            values[name] = [value]
        else:
            known.append(value)
    return values


@lru_cache(maxsize=4096)
def _checked_name(name: str) -> str:
    key = name.lower()
    if not _NAME.match(key):
        raise ValueError(f"{name!r} is no header name")
    return key


def _checked_value(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name} is {type(value).__name__}, not text")
    if not _VALUE.match(value):
        raise ValueError(f"the value of header {name} holds a character no header may carry")
    return value
