"""SETTINGS: what the peer announces, and what we do (RFC 9113 section 6.5)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from extproc.adapters.http2 import frames
from extproc.adapters.http2.errors import ConnectionFault, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.adapters.http2.limits import Limits

DEFAULT_WINDOW = 65_535
DEFAULT_TABLE = 4_096
_LARGEST_FRAME = 2**24 - 1
STREAMS_UNTIL_TOLD = 100
"""How many streams a client opens before it was told; servers are asked to take as many."""


class Setting(IntEnum):
    """The settings that a server reads or writes."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


def announced(limits: Limits) -> bytes:
    """Write what a server sends first: SETTINGS, and the connection's window.

    The header table has size 0, so that a block's meaning depends on its bytes alone.
    """
    own = {
        Setting.HEADER_TABLE_SIZE: 0,
        Setting.MAX_CONCURRENT_STREAMS: limits.streams,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
        Setting.MAX_FRAME_SIZE: frames.MAX_FRAME,
        Setting.MAX_HEADER_LIST_SIZE: limits.header_list,
    }
    more = limits.connection_window - DEFAULT_WINDOW
    return frames.settings({int(k): v for k, v in own.items()}) + frames.window_update(0, more)


def announced_by_client(limits: Limits) -> bytes:
    """Write what a client sends behind its preface; nothing may be pushed to it."""
    own = {
        Setting.HEADER_TABLE_SIZE: 0,
        Setting.ENABLE_PUSH: 0,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
        Setting.MAX_FRAME_SIZE: frames.MAX_FRAME,
        Setting.MAX_HEADER_LIST_SIZE: limits.header_list,
    }
    more = limits.connection_window - DEFAULT_WINDOW
    return frames.settings({int(k): v for k, v in own.items()}) + frames.window_update(0, more)


def read(payload: bytes) -> Iterator[tuple[int, int]]:
    """Read a peer's settings in their order, each checked.

    Raises:
        ConnectionFault: wrong size, or a value out of range.
    """
    if len(payload) % frames.SETTING.size:
        raise ConnectionFault(Violation.FRAME_SIZE)
    for name, value in frames.SETTING.iter_unpack(payload):
        if name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Violation.SETTING_VALUE)
        if name == Setting.INITIAL_WINDOW_SIZE and value > frames.MAX_WINDOW:
            raise ConnectionFault(Violation.WINDOW_SETTING)
        if name == Setting.MAX_FRAME_SIZE and not frames.MAX_FRAME <= value <= _LARGEST_FRAME:
            raise ConnectionFault(Violation.SETTING_VALUE)
        yield name, value
