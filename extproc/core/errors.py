"""Every error this package raises, divided by whose fault it is.

    ExtprocError
    ├── ConfigFault      the gateway file, a policy or a plugin's configuration: fix the file
    ├── BadPurge         an operator's purge: say it otherwise
    ├── PeerFault        Envoy (or whoever speaks its protocol) broke the law of an exchange
    ├── PluginFault      a plugin returned what no hook may return, or can't be started
    └── UpstreamFault    a call we made failed, by `reason`

Faults of the client are not exceptions but answers: `Response.problem`.
"""

from __future__ import annotations


class ExtprocError(Exception):
    """Base of every error raised on purpose by this package."""


class ConfigFault(ExtprocError):
    """The configuration can't be used; the message says what to change."""


class BadPurge(ExtprocError):
    """A purge can't be understood; the message says why."""


class PeerFault(ExtprocError):
    """The peer sent a message that the law of an exchange doesn't allow at this point."""


class PluginFault(ExtprocError):
    """A plugin broke its contract, for example by returning a value no hook may return."""


class UpstreamFault(ExtprocError):
    """A call to an upstream gave no usable answer.

    `reason` is one of: connect, timeout, too_large, protocol.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class HookInterrupted(BaseException):
    """Raised inside a hook that blocked past its deadline.

    Not an `Exception`: a hook's own `except Exception` must not swallow it.
    """


class DeadlinePassed(ExtprocError):
    """A hook that waits wasn't done at its deadline."""


def tamed(error: SystemExit | KeyboardInterrupt) -> PluginFault:
    """Return what a plugin's failure is instead: asyncio ends the loop by these, and the worker."""
    fault = PluginFault(f"it raised {type(error).__name__}")
    return fault.with_traceback(error.__traceback__)


def where(error: BaseException) -> str:
    """Return file:line of the innermost frame; the values in a text or traceback may be secrets."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
