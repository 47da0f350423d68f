"""Bounds for protobuf's own mapping, which takes microseconds for each field and element.

A message takes two bytes where it is empty, and each field of it that isn't set is written all the
same: an answer of 4 MB was half a minute's work, and gigabytes, in which nobody else had a turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.aggregation.failures import Unusable

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MOST = 100_000
"""Fields and elements of one message; as of XML, elements and attributes."""
_AT_ONCE = 10  # plain elements of a list, for one field
_ANY = "google.protobuf.Any"


def refuse_large_value(value: Any) -> None:
    """Refuse a value of which a message is to be made.

    Raises:
        Unusable: too much is in it.
    """
    left = MOST
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, list):
            continue
        left -= len(value)
        if left < 0:
            raise Unusable("no_value")
        waiting.extend(value)


def refuse_large_message(message: Any) -> None:
    """Refuse a message that is to be written as JSON.

    Raises:
        Unusable: too much is in it.
    """
    widths: dict[str, int] = {}
    left = MOST
    waiting: list[Any] = [message]
    while waiting:
        message = waiting.pop()
        if message.DESCRIPTOR.full_name == _ANY:
            left -= len(message.value)  # of messages that only their own descriptor tells
        for field, value in message.ListFields():
            left -= 1
            kind, many = field.message_type, value if field.is_repeated else (value,)
            if kind is None:
                left -= len(many) // _AT_ONCE if field.is_repeated else 0
            elif kind.GetOptions().map_entry:
                kind, many = kind.fields_by_name["value"].message_type, value.values()
                left -= len(many)
            if kind is not None:
                left -= len(many) * _width(kind, widths)
            if left < 0:
                raise Unusable("too_large")
            if kind is not None:
                waiting.extend(many)


def _width(kind: Descriptor, known: dict[str, int]) -> int:
    """Return how many fields are written of a message in which none is set, and itself."""
    width = known.get(kind.full_name)
    if width is None:
        width = 1 + sum(not field.has_presence for field in kind.fields)
        known[kind.full_name] = width
    return width
