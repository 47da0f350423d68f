"""Which call serves which method."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extproc.adapters import service
from extproc.adapters.local import health
from extproc.adapters.local.calls import AccessLogCall, ProcessCall, UnaryCall, WatchCall
from extproc.adapters.wire import PROCESS
from extproc.adapters.wire_authz import CHECK
from extproc.adapters.wire_log import STREAM_ACCESS_LOGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from extproc.adapters.http2.streams import Stream
    from extproc.adapters.local.calls import Call
    from extproc.adapters.local.health import Health
    from extproc.adapters.local.peer import Peer
    from extproc.adapters.service import Deciding


def methods(deciding: Deciding, state: Health) -> dict[str, Callable[[Peer, Stream], Call]]:
    """Return what begins a call, by its method."""

    async def check_health(request: bytes) -> bytes:
        return state.check(request)

    return {
        PROCESS: partial(ProcessCall, deciding),
        CHECK: partial(UnaryCall, partial(service.check, deciding)),
        STREAM_ACCESS_LOGS: partial(AccessLogCall, deciding),
        health.CHECK: partial(UnaryCall, check_health),
        health.WATCH: partial(WatchCall, state),
    }
