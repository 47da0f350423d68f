"""Sizes in the gateway file that are more than what a plugin can see whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.chain import BodyMode
from extproc.core.verdict import LARGEST_WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.config.build import Assembly
    from extproc.config.errors import Trouble


def warnings(assembly: Assembly) -> Iterator[Trouble]:
    """Yield a warning for each size that bodies of some route can't have."""
    modes, listener = assembly.modes, assembly.loaded.gateway.listener
    requests = {name: one.request_body for name, one in modes.items()}
    responses = {name: one.response_body for name, one in modes.items()}
    for key, size, bodies in (
        ("max_request_bytes", listener.max_request_bytes, requests),
        ("max_response_bytes", listener.max_response_bytes, responses),
    ):
        whole = [name for name, mode in bodies.items() if mode is BodyMode.BUFFERED]
        if size > LARGEST_WHOLE and whole:
            problem = f"is more than route {whole[0]} can see whole"
            expected = f"expected {LARGEST_WHOLE >> 20}MiB at most, or plugins with `streaming`"
            yield assembly.loaded.trouble(("listener", key), problem, expected)
