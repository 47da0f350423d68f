"""A future of a call's answer, for whoever awaits the call; what is told promptly needs none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from extproc.core.answered import Answered

if TYPE_CHECKING:
    from extproc.adapters.egress.call import Call


class Waited(asyncio.Future[Answered]):
    """Cancelling it, as a task does that is cancelled while it awaits it, cancels the call."""

    __slots__ = ("_call",)  # a future's own dictionary would cost as much as the rest of it

    def __init__(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._call: Call | None = call

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up, here and at the upstream."""
        call, self._call = self._call, None
        if not super().cancel(msg):
            return False
        if call is not None:
            call.cancel()
        return True

    def tell(self, answer: Answered | None, fault: BaseException | None) -> None:
        """End with what came of the call, unless nobody waits any more."""
        self._call = None  # no cycle: what a call leaves is freed at once
        if self.done():
            return
        if fault is not None:
            self.set_exception(fault)
        elif answer is not None:
            self.set_result(answer)
        else:
            super().cancel()
