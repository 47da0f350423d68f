"""Our subset of Envoy's messages: the same names, numbers and kinds; generated from protos/."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from extproc.adapters.messages import access_log_pb2, common_pb2, ext_authz_pb2, ext_proc_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

ROOT = Path(__file__).parents[2]
_CORE = "config.core.v3"
_PROC = "service.ext_proc.v3"
_AUTH = "service.auth.v3"
_LOG = "data.accesslog.v3"
_ALS = "service.accesslog.v3"

# Our message: package and name in the typed package.
TWINS = {
    "HeaderValue": (_CORE, "HeaderValue"),
    "HeaderMap": (_CORE, "HeaderMap"),
    "HeaderValueOption": (_CORE, "HeaderValueOption"),
    "Metadata": (_CORE, "Metadata"),
    "SocketAddress": (_CORE, "SocketAddress"),
    "Pipe": (_CORE, "Pipe"),
    "Address": (_CORE, "Address"),
    "QueryParameter": (_CORE, "QueryParameter"),
    "HttpStatus": ("type.v3", "HttpStatus"),
    **{
        name: (_PROC, name)
        for name in (
            "ProtocolConfiguration",
            "HttpHeaders",
            "HttpBody",
            "HttpTrailers",
            "ProcessingRequest",
            "HeaderMutation",
            "StreamedBodyResponse",
            "BodyMutation",
            "CommonResponse",
            "HeadersResponse",
            "BodyResponse",
            "TrailersResponse",
            "GrpcStatus",
            "ImmediateResponse",
            "StreamedImmediateResponse",
            "ProcessingResponse",
        )
    },
    "ProcessingMode": ("extensions.filters.http.ext_proc.v3", "ProcessingMode"),
    "AttributeContext": (_AUTH, "AttributeContext"),
    "AttributeContext.Peer": (_AUTH, "AttributeContextPeer"),
    "AttributeContext.HttpRequest": (_AUTH, "AttributeContextHttpRequest"),
    "AttributeContext.Request": (_AUTH, "AttributeContextRequest"),
    "AttributeContext.TLSSession": (_AUTH, "AttributeContextTlsSession"),
    "CheckRequest": (_AUTH, "CheckRequest"),
    "DeniedHttpResponse": (_AUTH, "DeniedHttpResponse"),
    "OkHttpResponse": (_AUTH, "OkHttpResponse"),
    "CheckResponse": (_AUTH, "CheckResponse"),
    "Status": ("google.rpc", "Status"),
    "AccessLogCommon": (_LOG, "AccessLogCommon"),
    "HTTPRequestProperties": (_LOG, "HttpRequestProperties"),
    "HTTPResponseProperties": (_LOG, "HttpResponseProperties"),
    "HTTPAccessLogEntry": (_LOG, "HttpAccessLogEntry"),
    "StreamAccessLogsMessage": (_ALS, "StreamAccessLogsMessage"),
    "StreamAccessLogsMessage.Identifier": (_ALS, "StreamAccessLogsMessageIdentifier"),
    "StreamAccessLogsMessage.HTTPAccessLogEntries": (
        _ALS,
        "StreamAccessLogsMessageHttpAccessLogEntries",
    ),
    "StreamAccessLogsResponse": (_ALS, "StreamAccessLogsResponse"),
}
_VARINTS = {"enum", "int32", "int64", "uint32", "uint64", "bool"}
_KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_MESSAGE: "message",
}


def _messages() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}

    def add(descriptor: Descriptor, prefix: str) -> None:
        if not descriptor.GetOptions().map_entry:
            found[prefix + descriptor.name] = descriptor
            for nested in descriptor.nested_types:
                add(nested, f"{prefix}{descriptor.name}.")

    for module in (common_pb2, ext_proc_pb2, ext_authz_pb2, access_log_pb2):
        for descriptor in module.DESCRIPTOR.message_types_by_name.values():
            add(descriptor, "")
    return found


MESSAGES = _messages()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_fields_are_envoys(name: str) -> None:
    """Each field has the name, number and wire kind that the typed package has."""
    package, twin = TWINS[name]
    prefix = "" if package.startswith("google") else "envoy."
    module = importlib.import_module(f"envoy_data_plane.{prefix}{package}")
    theirs: dict[str, Any] = {
        field.name: field.metadata["betterproto"]
        for field in dataclasses.fields(getattr(module, twin))
    }
    for field in MESSAGES[name].fields:
        their = theirs[field.name]
        assert field.number == their.number, field.name
        ours = _KINDS.get(field.type, "varint")
        kind = "message" if their.proto_type == "map" else their.proto_type
        assert ours == ("varint" if kind in _VARINTS else kind), field.name
        is_many = their.repeated or their.proto_type == "map"
        assert bool(field.is_repeated) == bool(is_many), field.name


def test_append_action_can_not_be_reached() -> None:
    """H5: Envoy ignores it in both services' request mutations, so it must not be used."""
    names = common_pb2.HeaderValueOption.DESCRIPTOR.fields_by_name
    assert "append_action" not in names


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    """What is committed is what `make protos` makes."""
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}"]
    command += [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *map(str, protos)]
    subprocess.run(command, check=True)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2.py*"))
    assert len(made) == 2 * len(protos)
    for path in made:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), path
