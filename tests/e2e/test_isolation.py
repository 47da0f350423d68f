"""One plugin that misbehaves on one route harms no other route."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from tests.support.load import Result, load
from tests.support.processes import Gateway, gateway

PLUGINS = """
import asyncio, threading, time
from extproc import Plugin

class Fine(Plugin):
    def on_request(self, request):
        request.headers["x-fine"] = "1"

class Sleeps(Plugin):
    def on_request(self, request):
        time.sleep(3600)

class SleepsInAsync(Plugin):
    async def on_request(self, request):
        time.sleep(3600)

class Locks(Plugin):
    def on_request(self, request):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

class Spins(Plugin):
    def on_request(self, request):
        while True:
            pass

class AwaitsForever(Plugin):
    async def on_request(self, request):
        await asyncio.Event().wait()

class RefusesToEnd(Plugin):
    async def on_request(self, request):
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

class Raises(Plugin):
    def on_request(self, request):
        raise RuntimeError("broken")
"""
BAD = ("Sleeps", "SleepsInAsync", "Locks", "Spins", "AwaitsForever", "RefusesToEnd", "Raises")
CONCURRENT = 200


def text(echo: int, plugin: str) -> str:
    """Return a gateway with a good route and one that runs the plugin."""
    return f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes:
  - {{name: good, match: {{path: /good}}, upstream: echo}}
  - name: bad
    match: {{path: /bad}}
    upstream: echo
    plugins: [{{use: "plugins.py:{plugin}", deadline: 200ms}}]
"""


async def both(running: Gateway, seconds: float) -> tuple[Result, Result]:
    """Load the bad route with 200 at once, and the good one beside it."""
    stop = asyncio.Event()
    url = f"http://127.0.0.1:{running.port}"
    bad = asyncio.ensure_future(load(f"{url}/bad", stop, loops=CONCURRENT, pause=0.4))
    good = asyncio.ensure_future(load(f"{url}/good", stop, loops=2, pause=0.01))
    await asyncio.sleep(seconds)
    stop.set()
    return await good, await bad


@pytest.mark.alone
@pytest.mark.parametrize("plugin", BAD)
def test_other_routes_lose_nothing(plugin: str, echo: int) -> None:
    """Under 200 concurrent requests to the bad route, the good one answers every request.

    After the first second its median stays within twice what it is beside a plugin that does
    nothing wrong, under the same load; medians of five interleaved rounds.
    """
    files = {"plugins.py": PLUGINS}
    with gateway(text(echo, plugin), files) as bad, gateway(text(echo, "Fine"), files) as fine:
        medians: dict[str, list[float]] = {"bad": [], "fine": []}
        for number in range(5):
            for name, running in (("bad", bad), ("fine", fine)):
                # The first second is when a blocking plugin is found out.
                skipped = 0.0 if number else 1.0
                good, other = asyncio.run(both(running, skipped + 1.2))
                assert set(good.statuses) == {200}, (name, good.statuses)
                medians[name].append(good.median(after=skipped))
                assert not other.statuses[0]
                assert bool(other.statuses[200]) == (name == "fine")
    assert statistics.median(medians["bad"]) <= 2 * statistics.median(medians["fine"]), medians
