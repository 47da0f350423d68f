"""What a gateway file says of a message, held against the message's fields."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2

from extproc.aggregation.bodies import body
from extproc.aggregation.calls import Call
from extproc.aggregation.failures import Unusable
from extproc.aggregation.procedures import Descriptors, Procedure
from extproc.aggregation.requests import Telling
from extproc.core.values import Request
from extproc.expressions.conditions import Context
from extproc.expressions.templates import Template, template

Field = descriptor_pb2.FieldDescriptorProto


def procedure() -> Procedure:
    """Return a method whose input has a field of each sort."""
    file = descriptor_pb2.FileDescriptorProto(
        name="t.proto", package="t", syntax="proto3", dependency=[timestamp_pb2.DESCRIPTOR.name]
    )
    colour = file.enum_type.add(name="Colour")
    colour.value.add(name="RED", number=0)
    colour.value.add(name="BLUE", number=1)
    item = file.message_type.add(name="Item")
    _field(item, 1, "sku", Field.TYPE_STRING)
    _field(item, 2, "item_count", Field.TYPE_INT32)
    order = file.message_type.add(name="Order")
    _field(order, 1, "id", Field.TYPE_INT64)
    _field(order, 2, "item", Field.TYPE_MESSAGE, ".t.Item")
    _field(order, 3, "items", Field.TYPE_MESSAGE, ".t.Item", many=True)
    _field(order, 4, "tags", Field.TYPE_STRING, many=True)
    _field(order, 5, "colour", Field.TYPE_ENUM, ".t.Colour")
    _field(order, 6, "made", Field.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    for number, name, kind, of in (
        (7, "by_name", Field.TYPE_MESSAGE, ".t.Item"),
        (8, "counts", Field.TYPE_INT32, ""),
    ):
        entry = order.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _field(entry, 1, "key", Field.TYPE_STRING)
        _field(entry, 2, "value", kind, of)
        _field(order, number, name, Field.TYPE_MESSAGE, f".t.Order.{entry.name}", many=True)
    method = file.service.add(name="S").method.add(name="M")
    method.input_type = method.output_type = ".t.Order"
    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return Descriptors(files.SerializeToString()).method("t.S/M")


def _field(
    message: descriptor_pb2.DescriptorProto,
    number: int,
    name: str,
    kind: Field.Type.ValueType,
    of: str = "",
    *,
    many: bool = False,
) -> None:
    label = Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if of:
        field.type_name = of


PROCEDURE = procedure()


def filled(source: Any) -> Any:
    """Return the tree of a request as it stands in a gateway file."""

    def compiled(text: str, _place: tuple[str | int, ...]) -> Template:
        return template(text, body=True, parts=("part",))

    return body(source, compiled)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"id": 1, "item": {"sku": "a", "itemCount": 2}, "tags": ["a"], "colour": "BLUE"},
        {"id": "{request.query.id}", "item": "{part.item}", "items": "{part.items}"},
        {"items": [{"sku": "{part.sku}"}, {"item_count": "7"}, "{part.item}"]},
        {"by_name": {"a": {"sku": "x"}, "b": "{part.item}"}, "counts": {"a": 1}},
        {"made": "2026-01-01T00:00:00Z", "id": None},
        {"tags": ["a", "{part.tag}"]},
    ],
)
def test_what_fits(source: Any) -> None:
    """Fields by either name, values that the mapping takes, and what holes will say."""
    assert list(PROCEDURE.misfits(filled(source).tree)) == []


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        ({"idd": 1}, ("idd",), "is no field of t.Order did you mean id?"),
        ({"zzz": "{part.x}"}, ("zzz",), "is no field of t.Order expected one of id, item, items,"),
        ({"item": {"sq": 1}}, ("item", "sq"), "is no field of t.Item"),
        ({"items": [{}, {"skuu": ""}]}, ("items", 1, "skuu"), "did you mean sku?"),
        ({"by_name": {"a": {"skuu": ""}}}, ("by_name", "a", "skuu"), "did you mean sku?"),
        ({"item": "a"}, ("item",), "is no Item expected a map of its fields"),
        ({"id": "x"}, ("id",), "that the field can't have expected int64"),
        ({"items": {"sku": "a"}}, ("items",), "expected repeated t.Item"),
        ({"tags": "a"}, ("tags",), "expected repeated string"),
        ({"tags": [1]}, ("tags",), "expected repeated string"),
        ({"colour": "GREEN"}, ("colour",), "expected one of RED, BLUE"),
        ({"made": "yesterday"}, ("made",), "expected google.protobuf.Timestamp"),
        ({"counts": {"a": "x"}}, ("counts",), "expected map<string, int32>"),
        ({"by_name": 1}, ("by_name",), "expected map<string, t.Item>"),
    ],
)
def test_what_never_fits(source: Any, place: tuple[str | int, ...], said: str) -> None:
    """One trouble for each mistake, with its place."""
    ((where, wrong, expected),) = PROCEDURE.misfits(filled(source).tree)
    assert where == place
    assert said in f"{wrong} {expected}"


def test_what_has_no_value_is_left_out() -> None:
    """A field, and an element of a list."""
    left = {"id": 7, "tags": ["a", None, "b"], "items": [None, {"sku": None}], "colour": None}
    kept = {"id": 7, "tags": ["a", "b"], "items": [{}]}
    assert PROCEDURE.written(left) == PROCEDURE.written(kept)


@pytest.mark.parametrize(
    ("source", "unfit"),
    [
        ({"id": "{request.query.id}"}, True),
        ({"id": "{request.query.id}", "item": {"sku": "{part.sku}"}}, True),
        ({"id": "{part.sku}", "item": {"sku": "{request.query.id}"}}, False),
        ({"id": "{part.sku}"}, False),
        ({"id": "{part.sku + request.query.id}"}, False),
    ],
)
def test_whose_fault_it_is(source: Any, unfit: bool) -> None:  # noqa: FBT001 - a case's
    """What the client chose is told apart from what an upstream said."""
    call = Call("p", "u", template("/t.S/M"), "POST", body=filled(source), kind=PROCEDURE)
    request = Request(target="/?id=seven")
    context = Context(request, parts={"part": {"sku": "x"}})
    with pytest.raises(Unusable) as caught:
        Telling(request, (), None, 0).outgoing(call, context)
    assert (caught.value.reason, caught.value.unfit) == ("no_value", unfit)
