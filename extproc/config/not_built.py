"""What the contract describes and this version doesn't build: refused by name, not ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.config.source import Key

# `*` stands for any name or place in a list.
KEYS: tuple[tuple[str, ...], ...] = (
    ("listeners",),
    ("plans",),
    ("tracing",),
    ("defaults", "plan"),
    ("consumers", "*", "plan"),
    ("routes", "*", "deadline"),
    ("routes", "*", "grpc"),
    ("routes", "*", "limits"),
    ("routes", "*", "validate"),
    ("routes", "*", "cors"),
    ("routes", "*", "mirror"),
    *(),
)


def found(data: Any) -> Iterator[Key]:
    """Yield each key of the data that isn't built yet."""
    for pattern in KEYS:
        yield from _matches(data, pattern, ())


def _matches(data: Any, pattern: tuple[str, ...], key: Key) -> Iterator[Key]:
    if not pattern:
        yield key
        return
    first, rest = pattern[0], pattern[1:]
    if isinstance(data, dict):
        for name in data if first == "*" else (first,):
            if name in data:
                yield from _matches(data[name], rest, (*key, name))
    elif isinstance(data, list) and first == "*":
        for place, item in enumerate(data):
            yield from _matches(item, rest, (*key, place))


def without(data: Any, key: Key) -> None:
    """Take a key out, so that the rest can be validated."""
    for part in key[:-1]:
        data = data[part]
    if isinstance(data, dict):
        data.pop(key[-1], None)
