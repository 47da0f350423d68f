"""gRPC methods by their descriptors: JSON in, JSON out (protobuf's own mapping).

Fields have the names of the descriptors, fields without a value their default; 64-bit integers are
texts, as that mapping says. Only unary methods are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, EncodeError

from extproc.aggregation.failures import Unusable
from extproc.aggregation.fields import misfits
from extproc.aggregation.tallies import refuse_large_message, refuse_large_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import MethodDescriptor

    from extproc.core.answered import Answered

_PREFIX = 5  # compressed flag and length, before each message
_OK = 200
# gRPC's statuses as HTTP's (google.rpc.Code); others are the upstream's fault.
_STATUSES = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 11: 400, 14: 503, 16: 401}


class UnknownMethod(ValueError):
    """The descriptors don't have such a method, or it can't be called."""


class Descriptors:
    """A set of files as `protoc --include_imports --descriptor_set_out` writes it."""

    def __init__(self, data: bytes) -> None:
        """Read it.

        Raises:
            UnknownMethod: it is something else.
        """
        self._pool = descriptor_pool.DescriptorPool()
        try:
            for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
                self._pool.Add(file)
        except (DecodeError, TypeError) as error:
            raise UnknownMethod(
                "isn't a descriptor set (protoc --include_imports --descriptor_set_out)"
            ) from error

    def method(self, name: str) -> Procedure:
        """Return `package.Service/Method`.

        Raises:
            UnknownMethod: there is none, or it streams.
        """
        service, _, method = name.rpartition("/")
        try:
            found = self._pool.FindServiceByName(service).FindMethodByName(method)
        except KeyError as error:
            raise UnknownMethod(f"has no method {name}") from error
        if found is None:
            raise UnknownMethod(f"has no method {name}")
        if found.client_streaming or found.server_streaming:
            raise UnknownMethod(f"has {name} as a stream, which can't be called")
        return Procedure(found)


class Procedure:
    """One unary method, as a kind of upstream.

    Attributes:
        path: by which it is called.
        only_reads: its descriptor says that it has no side effects.
    """

    sends: tuple[tuple[str, str], ...] = (("te", "trailers"),)
    sends_with_body: tuple[tuple[str, str], ...] = (("content-type", "application/grpc"),)

    def __init__(self, method: MethodDescriptor) -> None:
        self._input = message_factory.GetMessageClass(method.input_type)
        self._output = message_factory.GetMessageClass(method.output_type)
        level = method.GetOptions().idempotency_level
        self.only_reads = level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
        self.path = f"/{method.containing_service.full_name}/{method.name}"

    def misfits(self, tree: Any) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
        """Yield what of a request, as it stands in the gateway file, can't be; see `fields`."""
        return misfits(tree, self._input.DESCRIPTOR)

    def written(self, value: Any) -> bytes:
        """Write one message; the value must fit the method's input."""
        try:
            refuse_large_value(value)
            message = json_format.ParseDict(_without_nulls(value), self._input())
            data = message.SerializeToString()
        except (json_format.Error, EncodeError, TypeError, ValueError) as error:
            raise Unusable("no_value") from error
        return b"\0" + len(data).to_bytes(4, "big") + data

    def read(self, answer: Answered) -> Any:
        """Read the one message of a successful call."""
        if answer.status != _OK:
            raise Unusable("status", answer.status)
        status = answer.headers.get("grpc-status") or ""
        if status != "0":
            code = int(status) if status.isdecimal() and len(status) < _PREFIX else 2
            raise Unusable("grpc", _STATUSES.get(code, 502))
        body = answer.body
        if len(body) < _PREFIX or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
            raise Unusable("grpc", 502)
        try:
            message = self._output.FromString(body[_PREFIX:])
            refuse_large_message(message)
            result: dict[str, Any] = json_format.MessageToDict(
                message,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
        except (DecodeError, json_format.Error, ValueError, TypeError) as error:
            raise Unusable("grpc", 502) from error
        return result


def _without_nulls(value: Any) -> Any:
    """A field whose hole has no value isn't set, and no element of a list is made of one."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
