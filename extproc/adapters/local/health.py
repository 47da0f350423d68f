"""grpc.health.v1: what this process says of itself, and who wants to hear of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extproc.adapters.local.statuses import CallFault, Status

if TYPE_CHECKING:
    from collections.abc import Callable

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"

_Answer = health_pb2.HealthCheckResponse
_SERVING = _Answer(status=_Answer.SERVING).SerializeToString()
_NOT_SERVING = _Answer(status=_Answer.NOT_SERVING).SerializeToString()
_UNKNOWN = _Answer(status=_Answer.SERVICE_UNKNOWN).SerializeToString()


class Health:
    """The health of the one service that has the empty name: this process."""

    def __init__(self) -> None:
        self._serving = False
        self._watchers: set[Callable[[bytes], None]] = set()

    def set(self, *, serving: bool) -> None:
        """Change it, and tell whoever watches."""
        self._serving = serving
        for tell in list(self._watchers):
            tell(self._now())

    def _now(self) -> bytes:
        return _SERVING if self._serving else _NOT_SERVING

    def check(self, request: bytes) -> bytes:
        """Answer `Check`.

        Raises:
            CallFault: the request is none, or names a service that isn't here.
        """
        if _name(request):
            raise CallFault(Status.NOT_FOUND, "unknown service")
        return self._now()

    def watch(self, request: bytes, tell: Callable[[bytes], None]) -> None:
        """Begin to answer `Watch`: the state now, and each change.

        Raises:
            CallFault: the request is none.
        """
        if _name(request):
            tell(_UNKNOWN)
            return
        self._watchers.add(tell)
        tell(self._now())

    def forget(self, tell: Callable[[bytes], None]) -> None:
        """Stop telling a watcher."""
        self._watchers.discard(tell)


def _name(request: bytes) -> str:
    try:
        return health_pb2.HealthCheckRequest.FromString(request).service
    except DecodeError as error:
        raise CallFault(Status.INVALID_ARGUMENT, "no HealthCheckRequest") from error
