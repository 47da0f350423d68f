from extproc.adapters.messages import ext_proc_pb2 as _ext_proc_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReceivedHeaderMap(_message.Message):
    __slots__ = ("headers",)
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    headers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, headers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReceivedHeaders(_message.Message):
    __slots__ = ("headers", "end_of_stream")
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    END_OF_STREAM_FIELD_NUMBER: _ClassVar[int]
    headers: bytes
    end_of_stream: bool
    def __init__(self, headers: _Optional[bytes] = ..., end_of_stream: _Optional[bool] = ...) -> None: ...

class ReceivedRequest(_message.Message):
    __slots__ = ("request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "attributes", "protocol_config")
    REQUEST_HEADERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_HEADERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BODY_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BODY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TRAILERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TRAILERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_CONFIG_FIELD_NUMBER: _ClassVar[int]
    request_headers: ReceivedHeaders
    response_headers: ReceivedHeaders
    request_body: _ext_proc_pb2.HttpBody
    response_body: _ext_proc_pb2.HttpBody
    request_trailers: bytes
    response_trailers: bytes
    attributes: _containers.RepeatedScalarFieldContainer[bytes]
    protocol_config: bytes
    def __init__(self, request_headers: _Optional[_Union[ReceivedHeaders, _Mapping]] = ..., response_headers: _Optional[_Union[ReceivedHeaders, _Mapping]] = ..., request_body: _Optional[_Union[_ext_proc_pb2.HttpBody, _Mapping]] = ..., response_body: _Optional[_Union[_ext_proc_pb2.HttpBody, _Mapping]] = ..., request_trailers: _Optional[bytes] = ..., response_trailers: _Optional[bytes] = ..., attributes: _Optional[_Iterable[bytes]] = ..., protocol_config: _Optional[bytes] = ...) -> None: ...

class ReceivedAttributes(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: _struct_pb2.Struct
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
