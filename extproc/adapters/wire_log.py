"""Envoy's access log stream to plain values (envoy.service.accesslog.v3, Envoy 1.40)."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from extproc.adapters.messages import access_log_pb2 as pb
from extproc.core.errors import PeerFault

STREAM_ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
DONE = pb.StreamAccessLogsResponse().SerializeToString()


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as Envoy saw it end.

    Attributes:
        route: the route's name in Envoy's configuration; empty for none.
        status: of the response; 0 if there was none.
    """

    route: str
    status: int


def decode(data: bytes) -> list[Entry]:
    """Read one StreamAccessLogsMessage.

    Raises:
        PeerFault: the bytes are no such message.
    """
    try:
        message = pb.StreamAccessLogsMessage.FromString(data)
    except DecodeError as error:
        raise PeerFault("the message is no StreamAccessLogsMessage") from error
    return [
        Entry(entry.common_properties.route_name, entry.response.response_code.value)
        for entry in message.http_logs.log_entry
    ]
