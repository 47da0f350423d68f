"""XML, gRPC and GraphQL as calls."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.aggregation.failures import Unusable
from extproc.aggregation.kinds import GraphQl, Json, Xml
from extproc.aggregation.markup import NotConvertible, converted
from extproc.aggregation.procedures import Descriptors, UnknownMethod
from extproc.core.answered import Answered
from extproc.core.headers import Headers

SHOP = Path(__file__).parents[2] / "examples" / "shop"
METHOD = "shop.inventory.v1.Inventory/GetStock"


def answered(body: bytes, status: int = 200, **headers: str) -> Answered:
    """Return an answer."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answered(status, Headers(pairs), body)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ("<a/>", {"a": None}),
        ("<a>x</a>", {"a": "x"}),
        ("<a> <b>1</b> <b>2</b><c/> </a>", {"a": {"b": ["1", "2"], "c": None}}),
        ('<a k="v">x</a>', {"a": {"@k": "v", "#text": "x"}}),
        ('<a k="v"><b/></a>', {"a": {"@k": "v", "b": None}}),
        ('<p:a xmlns:p="urn:x"><p:b>1</p:b></p:a>', {"a": {"b": "1"}}),
        ('<a xmlns:p="urn:x" p:k="1" k="2" p:l="3"/>', {"a": {"@k": "2", "@l": "3"}}),
        ('<a xmlns:p="urn:x" k="2" p:k="1"/>', {"a": {"@k": "2"}}),
        ('<a xmlns:p="urn:x" xmlns:q="urn:y" p:k="1" q:k="2"/>', {"a": {"@k": "1"}}),
        ("<a>x &amp; &#233;</a>", {"a": "x & é"}),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe9</a>', {"a": "é"}),
        ("<a><![CDATA[<b>]]></a>", {"a": "<b>"}),
    ],
)
def test_xml_as_values(document: str, value: Any) -> None:
    """The mapping of the page."""
    assert converted(document.encode("latin-1")) == value


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"<a>",
        b"<a/><b/>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b"<a>&x;</a>",
        b"<a>" * 65 + b"</a>" * 65,
        b"<a>" + b"<b/>" * 100_001 + b"</a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
    ],
)
def test_b11_xml_that_is_not_read(document: bytes) -> None:
    """B11: no DTD, no entity, bounded depth and number."""
    with pytest.raises(NotConvertible):
        converted(document)


def in_one_namespace() -> bytes:
    """Return a document of few names in a namespace whose name is long."""
    names = b"".join(b"<p:b%d p:c%d=''/>" % (number, number) for number in range(100))
    return b"<p:a xmlns:p='%s'>%s</p:a>" % (b"u" * (1 << 20), names)


def rich(attribute: bytes) -> bytes:
    """Return an element with many attributes."""
    return b"<a%s/>" % b"".join(attribute % number for number in range(200_000))


@pytest.mark.parametrize(
    "document", [in_one_namespace(), rich(b" b%d=''"), rich(b" xmlns:b%d = '>'"), rich(b"\ta%d=''")]
)
def test_b11_a_document_takes_no_more_than_a_few_times_its_size(document: bytes) -> None:
    """B11: a namespace isn't there once more for each name in it, nor attributes before a bound."""
    tracemalloc.start()
    try:
        with suppress(NotConvertible):
            assert len(converted(document)["a"]) == 100
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * len(document)


def test_many_signs_in_a_text_are_no_attributes() -> None:
    """Where other tags stand between them."""
    assert converted(b"<a>%s</a>" % (b"a=" * 60_000 + b"<b/>" + b"a=" * 60_000))["a"]["#text"]


@pytest.mark.parametrize("encoding", ["Shift_JIS", "euc-jp", "iso-2022-jp", "GB2312", "cp932"])
def test_xml_of_other_alphabets(encoding: str) -> None:
    """As older services send it; what isn't in its encoding isn't read."""
    text = f'<?xml version="1.0" encoding="{encoding}"?><a k="本"><b>日本</b></a>'
    assert converted(text.encode(encoding)) == {"a": {"@k": "本", "b": "日本"}}
    with pytest.raises(NotConvertible):
        converted(text.encode("utf-8") + b"\xff\xff")


@given(st.binary(max_size=200), st.sampled_from(["", "utf-7", "big5", "hex", "utf-16", "x"]))
def test_any_bytes_are_xml_or_not_in_any_encoding(document: bytes, encoding: str) -> None:
    """Nothing else is raised."""
    head = f"<?xml version='1.0' encoding='{encoding}'?><a>".encode()
    with suppress(NotConvertible):
        assert isinstance(converted(head + document + b"</a>"), dict)


@given(st.binary(max_size=200))
def test_any_bytes_are_xml_or_not(document: bytes) -> None:
    """Nothing else is raised."""
    with suppress(NotConvertible):
        assert isinstance(converted(document), dict)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"data": null}', None),
        (b'{"data": {"a": 1}, "errors": []}', None),
        (b'{"data": {"a": 1}, "errors": [{"message": "x"}]}', "graphql"),
        (b'{"errors": [{"message": "x"}]}', "graphql"),
        (b"[]", "graphql"),
        (b"{", "not_json"),
    ],
)
def test_graphql(body: bytes, reason: str | None) -> None:
    """`data`, unless there are errors."""
    if reason is None:
        GraphQl().read(answered(body))
        return
    with pytest.raises(Unusable) as caught:
        GraphQl().read(answered(body))
    assert caught.value.reason == reason


def test_statuses() -> None:
    """Only success gives a part; 204 gives null."""
    assert Json().read(answered(b"", 204)) is None
    assert Json().read(answered(b"1", 201)) == 1
    for status in (199, 301, 304, 404, 500):
        with pytest.raises(Unusable) as caught:
            Xml().read(answered(b"<a/>", status))
        assert caught.value.status == status


NO_SIDE_EFFECTS, IDEMPOTENT = (bytes((0x90, 2, level)) for level in (1, 2))  # field 34


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the shop's descriptor set."""
    file = tmp_path_factory.mktemp("pb") / "inventory.pb"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{SHOP}", "--include_imports",
         f"--descriptor_set_out={file}", "inventory.proto"],
        check=True,
    )  # fmt: skip
    return file.read_bytes()


def test_a_grpc_method(descriptors: bytes) -> None:
    """JSON in, a framed message out, and back."""
    method = Descriptors(descriptors).method(METHOD)
    assert method.path == f"/{METHOD}"
    assert method.only_reads
    silent = descriptors.replace(NO_SIDE_EFFECTS, IDEMPOTENT)
    assert silent != descriptors
    assert not Descriptors(silent).method(METHOD).only_reads
    assert method.written({"sku": "A"}) == b"\0\0\0\0\3\x0a\x01A"
    assert method.written({"sku": None}) == b"\0\0\0\0\0"
    message = b"\x0a\x01A\x10\x07"
    body = b"\0" + len(message).to_bytes(4, "big") + message
    value = method.read(answered(body, grpc_status="0"))
    assert value == {"sku": "A", "quantity": 7, "warehouse": ""}


@pytest.mark.parametrize("value", [{"nothing": 1}, {"sku": 1}, "x", {"sku": {"a": 1}}])
def test_what_does_not_fit_a_message(descriptors: bytes, value: Any) -> None:
    """An unknown field or another type."""
    with pytest.raises(Unusable):
        Descriptors(descriptors).method(METHOD).written(value)


@pytest.mark.parametrize(
    ("body", "status", "grpc", "expected"),
    [
        (b"", 200, "5", 404),
        (b"", 200, "4", 504),
        (b"", 200, "2", 502),
        (b"", 200, "", 502),
        (b"", 200, "x", 502),
        (b"", 503, "0", 503),
        (b"\0\0\0\0\5ab", 200, "0", 502),
        (b"\1\0\0\0\0", 200, "0", 502),
        (b"\0\0\0\0\2\xff\xff", 200, "0", 502),
        (b"\0\0\0\0\0\0\0\0\0\0", 200, "0", 502),
    ],
)
def test_grpc_answers_that_are_none(
    descriptors: bytes, body: bytes, status: int, grpc: str, expected: int
) -> None:
    """A status other than OK, or bytes that aren't one message."""
    with pytest.raises(Unusable) as caught:
        Descriptors(descriptors).method(METHOD).read(answered(body, status, grpc_status=grpc))
    assert caught.value.status == expected


def test_descriptors_that_are_none(descriptors: bytes) -> None:
    """Are found when loading."""
    with pytest.raises(UnknownMethod):
        Descriptors(b"\xff\xff")
    for name in ("shop.inventory.v1.Inventory/Nothing", "Nothing/GetStock", "x"):
        with pytest.raises(UnknownMethod, match="has no method"):
            Descriptors(descriptors).method(name)


@pytest.mark.parametrize("kind", [Json, Xml])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 205])
def test_a_change_may_be_answered_with_nothing(kind: type[Json], status: int) -> None:
    """What was carried out didn't fail; what asks for something and gets nothing did."""
    changes, asks = kind(tells_nothing=True), kind()
    assert changes.read(answered(b"", status)) is None
    with pytest.raises(Unusable):
        changes.read(answered(b" ", status))
    if status == 204:
        assert asks.read(answered(b"", status)) is None
        return
    with pytest.raises(Unusable):
        asks.read(answered(b"", status))
