"""How much of gRPC is converted: no more than takes a moment."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, struct_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from extproc.aggregation.failures import Unusable
from extproc.aggregation.procedures import Descriptors, Procedure
from extproc.aggregation.tallies import MOST, refuse_large_message
from extproc.core.answered import Answered
from extproc.core.headers import Headers

WIDE = 9  # fields of an item that are written although they aren't set


def procedure() -> Procedure:
    """Return a method that takes and gives items, plain numbers and a map."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    item, every = file.message_type.add(name="Item"), file.message_type.add(name="All")
    for number in range(1, WIDE + 1):
        item.field.add(name=f"f{number}", number=number, type=Field.TYPE_STRING, label=1)
    every.field.add(name="i", number=1, type=Field.TYPE_MESSAGE, type_name=".t.Item", label=3)
    every.field.add(name="n", number=2, type=Field.TYPE_INT32, label=3)
    every.field.add(name="m", number=3, type=Field.TYPE_MESSAGE, type_name=".t.All.ME", label=3)
    entry = every.nested_type.add(name="ME")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=Field.TYPE_STRING, label=1)
    service = file.service.add(name="S")
    service.method.add(name="M", input_type=".t.All", output_type=".t.All")
    described = descriptor_pb2.FileDescriptorSet(file=[file])
    return Descriptors(described.SerializeToString()).method("t.S/M")


def answer(message: bytes) -> Answered:
    """Return an answer of one message."""
    headers = Headers([("grpc-status", "0")])
    return Answered(200, headers, b"\0" + len(message).to_bytes(4, "big") + message)


LONG = struct_pb2.ListValue(values=[struct_pb2.Value()] * (MOST + 1))
ITEM = b"\x0a\0"
NUMBERS = b"\x12\xc0\x84\x3d" + bytes(1_000_000)


def entries(number: int) -> bytes:
    """Return so many entries of the map."""
    return b"".join(b"\x1a\x08\x0a\x06%06d" % one for one in range(number))


@pytest.mark.parametrize(
    "message", [ITEM * (MOST // WIDE), NUMBERS, entries(MOST + 1)], ids=["items", "plain", "map"]
)
def test_b9_a_message_of_too_much_is_not_converted(message: bytes) -> None:
    """B9: what is small on the wire may be large as JSON."""
    with pytest.raises(Unusable) as caught:
        procedure().read(answer(message))
    assert caught.value.reason == "too_large"


def test_what_is_usual_is_converted() -> None:
    """Thousands of items, and as many numbers as a list of coordinates has."""
    message = ITEM * 5000 + b"\x12\xa0\x8d\x06" + bytes(100_000) + entries(20_000)
    made = procedure().read(answer(message))
    assert [len(made[name]) for name in "inm"] == [5000, 100_000, 20_000]


@pytest.mark.parametrize(
    "message",
    [
        any_pb2.Any(value=b"\x0a\0" * MOST),
        LONG,
        struct_pb2.Struct(fields={"a": struct_pb2.Value(list_value=LONG)}),
    ],
)
def test_what_tells_its_own_kind_is_counted(message: Any) -> None:
    """Those of protobuf itself; what an Any holds, by its bytes."""
    with pytest.raises(Unusable):
        refuse_large_message(message)


@pytest.mark.parametrize("value", [{"n": [0] * (MOST + 1)}, {"i": [{"f1": ""}] * MOST}])
def test_b9_no_message_is_made_of_too_much(value: object) -> None:
    """B9: of a list that a client sent, for example."""
    with pytest.raises(Unusable) as caught:
        procedure().written(value)
    assert caught.value.reason == "no_value"


def test_a_large_request_of_few_values_is_made() -> None:
    """Its size is no matter of this bound."""
    assert len(procedure().written({"i": [{"f1": "a" * 500_000}], "n": [1] * 50_000})) > 500_000
