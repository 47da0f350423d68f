"""What of a gRPC message stands in the gateway file, held against the message's fields.

A field that doesn't exist, or one that can't have what is written for it, would fail each call.
What holes give is only known then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from extproc.core.near import near
from extproc.expressions.templates import Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import FieldDescriptor

_OWN_MAPPING = "google.protobuf."  # Timestamp, Struct, wrappers: written in ways of their own

Place = tuple[str | int, ...]


def misfits(tree: Any, message: Any, place: Place = ()) -> Iterator[tuple[Place, str, str]]:
    """Yield what is wrong with a message.

    Args:
        tree: maps and lists of templates and plain scalars; see `bodies.Body`.
        message: descriptor of what it must be.
        place: where in the message the tree stands.

    Yields:
        The place, what is wrong, and what was expected.
    """
    if isinstance(tree, Template) or message.full_name.startswith(_OWN_MAPPING):
        return
    if not isinstance(tree, dict):
        yield place, f"is no {message.name}", "expected a map of its fields"
        return
    known = {name: field for field in message.fields for name in (field.name, field.json_name)}
    for name, value in tree.items():
        inside = (*place, name)
        if name not in known:
            names = [field.name for field in message.fields]
            yield inside, f"is no field of {message.full_name}", near(name, names)
        elif value is not None:  # null leaves a field out
            yield from _wrong(value, known[name], inside)


def _wrong(value: Any, field: FieldDescriptor, place: Place) -> Iterator[tuple[Place, str, str]]:
    found = False
    for where, inside, message in _messages(value, field):
        for wrong in misfits(inside, message, (*place, *where)):
            found = True
            yield wrong
    if not (found or _has_holes(value) or _is_taken(value, field)):
        yield place, "has a value that the field can't have", f"expected {_kind(field)}"


def _messages(value: Any, field: FieldDescriptor) -> list[tuple[Place, Any, Any]]:
    """Return the messages in a field's value, with their places in it."""
    message = field.message_type
    if message is None:
        return []
    if message.GetOptions().map_entry:
        inner = message.fields_by_name["value"].message_type
        if inner is None or not isinstance(value, dict):
            return []
        return [((name,), inside, inner) for name, inside in value.items()]
    if field.is_repeated:
        many = value if isinstance(value, list) else ()
        return [((number,), inside, message) for number, inside in enumerate(many)]
    return [((), value, message)]


def _has_holes(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_holes(inside) for inside in value.values())
    if isinstance(value, list):
        return any(_has_holes(inside) for inside in value)
    return isinstance(value, Template)


def _is_taken(value: Any, field: FieldDescriptor) -> bool:
    """Say whether the mapping takes a value for a field."""
    holder: Any = field.containing_type
    message = message_factory.GetMessageClass(holder)()
    try:
        json_format.ParseDict({field.name: value}, message)
    except (json_format.Error, TypeError, ValueError):
        return False
    return True


def _kind(field: FieldDescriptor) -> str:
    """Return what a field is, as in its file."""
    message, enum = field.message_type, field.enum_type
    if message is not None and message.GetOptions().map_entry:
        of = [_kind(message.fields_by_name[name]) for name in ("key", "value")]
        return f"map<{', '.join(of)}>"
    number: Any = field.type
    name = FieldDescriptorProto.Type.Name(number).removeprefix("TYPE_").lower()
    kind = name if message is None else message.full_name
    if enum is not None:
        kind = f"one of {', '.join(enum.values_by_name)}"
    return f"repeated {kind}" if field.is_repeated else kind
