"""Twenty at once on an upstream that takes half a second: how long a burst takes, and who pays.

A cold miss reaches the upstream once. What can't be shared is waited for once, in the first burst;
every later one is as fast as a single request.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.support.origin import Says, origin
from tests.support.processes import gateway

if TYPE_CHECKING:
    from tests.support.origin import Came
    from tests.support.processes import Gateway

_TOGETHER = 20
_TAKES = 0.5
TEXT = """
upstreams: {{origin: {{endpoints: ["http://127.0.0.1:{port}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: all, match: {{path: /*}}, upstream: origin, cache: {{}}}}]
"""


def _slow(headers: dict[str, str]) -> object:
    def says(_came: Came) -> Says:
        threading.Event().wait(_TAKES)
        return Says(headers)

    return says


def burst(running: Gateway, target: str, count: int = _TOGETHER) -> float:
    """Return how long so many requests take, all begun at once, seconds."""
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        replies = list(pool.map(lambda _: running.ask(target), range(count)))
    if {reply.status for reply in replies} != {200}:
        sys.exit("an answer was no 200")
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    with origin() as upstream, gateway(TEXT.format(port=upstream.port)) as running:
        for path, said in (("/cold", "max-age=60"), ("/never", "no-store"), ("/one", "no-store")):
            upstream.says[path] = _slow({"cache-control": said})  # type: ignore[assignment]  # it is one
        single = statistics.median(burst(running, "/one", 1) for _ in range(3))
        cold = burst(running, "/cold")
        first, *later = [burst(running, "/never") for _ in range(4)]
        print(f"a single request: {single:.2f} s")
        print(f"{_TOGETHER} cold: {cold / single:.2f} of it, {upstream.count('/cold')} upstream")
        rest = ", ".join(f"{one / single:.2f}" for one in later)
        print(f"{_TOGETHER} that can't be shared: {first / single:.2f}, then {rest}")


if __name__ == "__main__":
    main()
