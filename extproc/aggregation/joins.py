"""Joining lists: keys out of earlier parts, chunks of them, and items by their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from extproc.expressions.projections import ShapeFailed, key_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from extproc.aggregation.calls import Batch

Key = str | int | float
Items = dict[str, Any]
"""Items by the text of their key."""

KEY, KEYS = "key", "keys"
"""Names in the templates of a call with `each`: the one key, or those of a chunk."""

OWN = frozenset({KEY, KEYS})


class NotJoinable(ValueError):
    """A bulk answer isn't a list, or a map where one is expected."""


def keys_of(value: Any, most: int) -> list[Key]:
    """Return the keys in a value, each once, in their order; what is no key is left out.

    Keys compare by their JSON text, so 7 and "7" are one.

    Args:
        value: a list, or one key.
        most: how many are looked for; an upstream may send a million.
    """
    found: dict[str, Key] = {}
    for item in value if isinstance(value, list) else [value]:
        if _is_key(item):
            found.setdefault(key_text(item), item)
            if len(found) >= most:
                break
    return list(found.values())


def all_are_keys(value: Any) -> bool:
    """Say whether a list holds keys alone; null in place of a list holds none."""
    if value is None:
        return True
    return all(map(_is_key, value if isinstance(value, list) else [value]))


def _is_key(item: Any) -> TypeGuard[Key]:
    return isinstance(item, str | int | float) and not isinstance(item, bool) and item != ""


def chunks(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    """Cut keys into chunks of a size."""
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def joined(batch: Batch, keys: Sequence[Key], answer: Any) -> Items:
    """Return the items of a bulk answer for the keys it was asked for; others are left out.

    Raises:
        NotJoinable: the answer has another shape.
    """
    try:
        items = batch.items.of(answer) if batch.items is not None else answer
    except ShapeFailed as error:
        raise NotJoinable(error) from error
    if batch.by == "map":
        if not isinstance(items, dict):
            raise NotJoinable("no map")
        return {text: items[text] for text in map(key_text, keys) if text in items}
    if not isinstance(items, list):
        raise NotJoinable("no list")
    if batch.by == "position":
        if len(items) != len(keys):
            raise NotJoinable("another number of items than of keys")
        return {key_text(key): item for key, item in zip(keys, items, strict=True)}
    return _by_key(batch, keys, items)


def _by_key(batch: Batch, keys: Sequence[Key], items: list[Any]) -> Items:
    wanted = {key_text(key) for key in keys}
    found: Items = {}
    for item in items:
        try:
            key = batch.key.of(item) if batch.key is not None else None
        except ShapeFailed as error:
            raise NotJoinable(error) from error
        if isinstance(key, str | int | float):
            text = key_text(key)
            if text in wanted:
                found.setdefault(text, item)
    return found
