"""Each exchange has one record, by whoever knows how it ended."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import h2.connection
import pytest

from tests.support.origin import origin
from tests.support.processes import Gateway, gateway
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.client import Reply
    from tests.support.origin import Origin

REST = """
decisions: {{file: records.jsonl}}
upstreams: {{origin: {{endpoints: ["http://127.0.0.1:{port}"]}}}}
defaults: {{authentication: none}}
routes:
  - {{name: plain, match: {{path: "/{{name}}"}}, upstream: origin}}
"""
MANY = 20


@pytest.fixture(scope="module")
def upstream() -> Iterator[Origin]:
    """Run the upstream."""
    with origin() as running:
        yield running


@pytest.fixture(scope="module", params=["local", "grpcio"])
def place(request: pytest.FixtureRequest, upstream: Origin) -> Iterator[Gateway]:
    """Run a gateway with each server."""
    options = ("--server", request.param)
    with gateway(REST.format(port=upstream.port), options=options) as running:
        yield running


def recorded(place: Gateway, path: str) -> list[dict[str, Any]]:
    """Return the records of a path."""
    return [one for one in records_in(place.folder / "records.jsonl") if one["path"] == path]


def settled(place: Gateway, path: str) -> list[dict[str, Any]]:
    """Return the records of a path once those of a later request are there, Envoy's too."""
    place.ask(f"{path}/behind")  # no route: Envoy's
    place.ask(f"{path}-behind")
    until(lambda: recorded(place, f"{path}/behind"), "what Envoy wrote later")
    until(lambda: recorded(place, f"{path}-behind"), "what the service wrote later")
    return recorded(place, path)


def test_what_envoy_no_longer_waits_for(place: Gateway, upstream: Origin) -> None:
    """A worker that stood still answers too late: 504, and nothing reached the upstream."""
    [worker] = place.workers()
    replies: list[Reply] = []
    asking = [
        threading.Thread(target=lambda: replies.append(place.ask("/late"))) for _ in range(MANY)
    ]
    os.kill(worker, signal.SIGSTOP)
    try:
        for thread in asking:
            thread.start()
        until(lambda: len(replies) == MANY, "Envoy gives up")
    finally:
        os.kill(worker, signal.SIGCONT)
    for thread in asking:
        thread.join()
    assert {reply.status for reply in replies} == {504}
    until(lambda: len(recorded(place, "/late")) >= MANY, "they are recorded")
    found = Counter((one["by"], one["decision"], one["status"]) for one in settled(place, "/late"))
    assert found == {("envoy", "error", 504): MANY}
    assert not upstream.count("/late")


def test_what_a_client_takes_back_at_once(place: Gateway, upstream: Origin) -> None:
    """Headers and a reset in one write: nobody was told anything, and Envoy says so."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/back")]
    for number in range(MANY):
        connection.send_headers(2 * number + 1, fields, end_stream=True)
        connection.reset_stream(2 * number + 1)
    with socket.create_connection(("127.0.0.1", place.port), 10) as connected:
        connected.sendall(connection.data_to_send())
        until(lambda: len(recorded(place, "/back")) >= MANY, "they are recorded")
    found = Counter((one["by"], one["decision"], one["status"]) for one in settled(place, "/back"))
    assert found == {("envoy", "deny", None): MANY}
    assert not upstream.count("/back")
