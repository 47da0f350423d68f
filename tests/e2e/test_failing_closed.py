"""Through a real Envoy: whatever fails, nothing reaches the upstream without our verdict.

Each test has its control: with the guard taken out the same request does get through.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bad_services
from tests.support.bad_services import bad_service
from tests.support.client import ask
from tests.support.mutants import failing_open, without_verdict_filter
from tests.support.places import free_port, short_folder
from tests.support.processes import children, envoy, gateway, head, printed_envoy, service
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLUGINS = """
import asyncio
from extproc import Plugin

class Raises(Plugin):
    phase: str
    def on_request(self, request):
        if self.phase == "request":
            raise RuntimeError("broken")
    def on_request_body(self, request, body):
        if self.phase == "request_body":
            raise RuntimeError("broken")

class RaisesOutward(Plugin):
    phase: str
    def on_response(self, request, response):
        if self.phase == "response":
            raise RuntimeError("broken")
    def on_response_body(self, request, response, body):
        if self.phase == "response_body":
            raise RuntimeError("broken")

class Waits(Plugin):
    seconds: float
    async def on_request(self, request):
        await asyncio.sleep(self.seconds)
"""


class Place:
    """A gateway file, where its service listens, and the configuration for its Envoy."""

    def __init__(self, folder: Path, echo: int, routes: str = "") -> None:
        self.port = free_port()
        self.file = folder / "gateway.yaml"
        self.socket = f"unix:{folder}/s"
        (folder / "plugins.py").write_text(PLUGINS)
        self.file.write_text(
            head(self.port, free_port())
            + f"upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}\n"
            + "defaults: {authentication: none}\n"
            + "routes:\n"
            + (routes or "  - {name: any, match: {path: /*}, upstream: echo}\n")
        )
        ports = [str(free_port()), str(free_port())]
        self.config: Any = printed_envoy(
            self.file,
            "--service",
            self.socket,
            "--egress",
            f"127.0.0.1:{ports[0]}",
            "--admin",
            f"127.0.0.1:{ports[1]}",
        )


@pytest.fixture
def place(echo: int) -> Iterator[Place]:
    """Return a place of its own."""
    with short_folder() as folder:
        yield Place(folder, echo)


def reached(echo: int) -> int:
    """Return how many requests the upstream got."""
    paths = ask(echo, "/__requests").json["paths"]
    return sum("/secret" in path for path in paths)


def refused(place: Place, config: Any, echo: int, statuses: set[int]) -> None:
    """Expect that a request is refused and doesn't reach the upstream."""
    with envoy(config, place.port):
        reply = ask(place.port, "/secret")
    assert reply.status in statuses
    assert reply.headers["content-type"] == "application/problem+json"
    assert reached(echo) == 0


def let_through(place: Place, config: Any, echo: int) -> None:
    """Expect that a request does reach the upstream: the control."""
    with envoy(config, place.port):
        assert ask(place.port, "/secret").status == 200
    assert reached(echo) == 1


class TestServiceGone:
    """F1: the service isn't there, or doesn't answer."""

    def test_stopped(self, place: Place, echo: int) -> None:
        """A service that isn't running lets nothing through."""
        refused(place, place.config, echo, {503})

    def test_stopped_control(self, place: Place, echo: int) -> None:
        """Failing open without the verdict filter lets the same request through."""
        let_through(place, failing_open(place.config), echo)

    def test_paused(self, place: Place, echo: int) -> None:
        """A service that is paused (SIGSTOP) lets nothing through."""
        self._paused(place, place.config)
        assert reached(echo) == 0

    def test_paused_control(self, place: Place, echo: int) -> None:
        """Failing open lets the request through a paused service."""
        self._paused(place, failing_open(place.config))
        assert reached(echo) == 1

    def _paused(self, place: Place, config: Any) -> None:
        with service(place.file, place.socket) as running, envoy(config, place.port):
            until(lambda: ask(place.port, "/warm").status == 200, "the service is healthy")
            stopped = children(running.pid)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                ask(place.port, "/secret")
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)

    def test_killed_in_the_middle(self, echo: int) -> None:
        """A worker killed while it holds a request lets that request not through."""
        with short_folder() as folder:
            assert self._killed(Place(folder, echo, WAITING), lambda config: config) == 503
        assert reached(echo) == 0

    def test_killed_in_the_middle_control(self, echo: int) -> None:
        """Failing open lets the request of a killed worker through."""
        with short_folder() as folder:
            assert self._killed(Place(folder, echo, WAITING), failing_open) == 200
        assert reached(echo) == 1

    def _killed(self, place: Place, change: Callable[[Any], Any]) -> int:
        import threading  # noqa: PLC0415 - beside its use

        statuses: list[int] = []
        with service(place.file, place.socket) as running, envoy(change(place.config), place.port):
            until(lambda: ask(place.port, "/warm").status == 200, "the service is healthy")
            workers = children(running.pid)
            asking = threading.Thread(
                target=lambda: statuses.append(ask(place.port, "/slow/secret").status)
            )
            asking.start()
            until(lambda: _held(place), "the request is held")
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            asking.join(20)
        return statuses[0]


WAITING = """
  - {name: any, match: {path: /*}, upstream: echo}
  - name: slow
    match: {path: /slow/*}
    upstream: echo
    plugins: [{use: "plugins.py:Waits", with: {seconds: 8}, deadline: 9s}]
"""


def _held(place: Place) -> bool:
    """Say whether Envoy has a stream open to the service."""
    admin = place.config["admin"]["address"]["socket_address"]["port_value"]
    stats = ask(admin, "/stats?format=json&filter=^cluster.extproc.upstream_rq_active$").json
    return bool(stats["stats"] and stats["stats"][0]["value"] > 0)


BEHAVIOURS = {
    "closes early with OK": (bad_services.closes_early, without_verdict_filter),
    "gives no verdict": (bad_services.gives_no_verdict, without_verdict_filter),
    "gives another route's verdict": (bad_services.gives_another_verdict, without_verdict_filter),
    "answers late": (bad_services.answers_late, failing_open),
    "answers the wrong kind": (bad_services.answers_the_wrong_kind, failing_open),
    "answers rubbish": (bad_services.answers_rubbish, failing_open),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
class TestServiceMisbehaves:
    """F2, F3, F4: the service answers, but not as it must."""

    def test_refused(self, name: str, place: Place, echo: int) -> None:
        """Nothing gets through."""
        with bad_service(place.socket, BEHAVIOURS[name][0]):
            refused(place, place.config, echo, {503, 504})

    def test_control(self, name: str, place: Place, echo: int) -> None:
        """With the guard taken out the request gets through."""
        behave, mutant = BEHAVIOURS[name]
        with bad_service(place.socket, behave):
            let_through(place, mutant(place.config), echo)


def plugin_route(use: str, on_failure: str, deadline: str = "200ms") -> str:
    """Return a gateway file's rest with one plugin on the route `/secret`."""
    return f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:ECHO"]}}}}
defaults: {{authentication: none}}
routes:
  - name: secret
    match: {{path: /secret}}
    upstream: echo
    plugins: [{{use: "plugins.py:{use}, on_failure: {on_failure}, deadline: {deadline}}}]
"""


def through_gateway(text: str, echo: int, body: bytes | None = None) -> int:
    """Run a gateway with the test's plugins, ask for /secret, return the status."""
    with gateway(text.replace("ECHO", str(echo)), {"plugins.py": PLUGINS}) as running:
        return running.ask("/secret", method="POST" if body else "GET", body=body).status


class TestPluginFails:
    """F5: a plugin fails; `on_failure: skip` is the control."""

    @pytest.mark.parametrize("phase", ["request", "request_body"])
    def test_raises_on_the_way_in(self, phase: str, echo: int) -> None:
        """An exception before the upstream is a 500, and the upstream isn't asked."""
        text = plugin_route(f'Raises", with: {{phase: {phase}}}', "deny")
        assert through_gateway(text, echo, b"x") == 500
        assert reached(echo) == 0

    @pytest.mark.parametrize("phase", ["request", "request_body"])
    def test_raises_on_the_way_in_control(self, phase: str, echo: int) -> None:
        """With `on_failure: skip` the request goes on."""
        text = plugin_route(f'Raises", with: {{phase: {phase}}}', "skip")
        assert through_gateway(text, echo, b"x") == 200
        assert reached(echo) == 1

    @pytest.mark.parametrize("phase", ["response", "response_body"])
    def test_raises_on_the_way_out(self, phase: str, echo: int) -> None:
        """An exception after the upstream hides what the upstream answered."""
        text = plugin_route(f'RaisesOutward", with: {{phase: {phase}}}', "deny")
        assert through_gateway(text, echo) == 500

    @pytest.mark.parametrize("phase", ["response", "response_body"])
    def test_raises_on_the_way_out_control(self, phase: str, echo: int) -> None:
        """With `on_failure: skip` the answer passes."""
        text = plugin_route(f'RaisesOutward", with: {{phase: {phase}}}', "skip")
        assert through_gateway(text, echo) == 200

    def test_passes_its_deadline(self, echo: int) -> None:
        """An answer past the deadline is a 504, and the upstream isn't asked."""
        text = plugin_route('Waits", with: {seconds: 5}', "deny")
        assert through_gateway(text, echo) == 504
        assert reached(echo) == 0

    def test_passes_its_deadline_control(self, echo: int) -> None:
        """With `on_failure: skip` the request goes on after the deadline."""
        text = plugin_route('Waits", with: {seconds: 5}', "skip")
        assert through_gateway(text, echo) == 200
        assert reached(echo) == 1
