"""What lasts, through a real Envoy: how long each may take."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.client import Reply, ask
from tests.support.origin import Says, origin
from tests.support.places import free_port, short_folder
from tests.support.processes import envoy, head, printed_envoy, service
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.origin import Origin

REST = """
upstreams:
  hasty: {{endpoints: ["http://127.0.0.1:{port}"]}}
  patient: {{endpoints: ["http://127.0.0.1:{port}"], timeout: 10m}}
defaults: {{authentication: none}}
routes:
  - {{name: hasty, match: {{path: /hasty}}, upstream: hasty}}
  - {{name: patient, match: {{path: /patient}}, upstream: patient}}
"""


@pytest.fixture
def impatient() -> Iterator[tuple[Origin, int]]:
    """Run an Envoy of its own that ends after a second what it would end after five minutes."""
    with ExitStack() as stack:
        folder, upstream = stack.enter_context(short_folder()), stack.enter_context(origin())
        port, file = free_port(), folder / "gateway.yaml"
        file.write_text(head(port, free_port()) + REST.format(port=upstream.port))
        listen, egress = f"unix:{folder}/s", f"unix:{folder}/e"
        config = printed_envoy(file, "--service", listen, "--egress", egress)
        for listener in config["static_resources"]["listeners"]:
            [manager] = listener["filter_chains"][0]["filters"]
            manager["typed_config"]["stream_idle_timeout"] = "1s"
        stack.enter_context(service(file, listen, egress))
        stack.enter_context(envoy(config, port))
        yield upstream, port


def test_nothing_may_pass_for_as_long_as_the_upstream_may_take(
    impatient: tuple[Origin, int],
) -> None:
    """What ends a silent stream ends the hasty one, though that is silent for less."""
    upstream, port = impatient
    gate = threading.Event()
    upstream.says["/hasty"] = upstream.says["/patient"] = Says(body=b"done", gate=gate)
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(ask(port, "/patient")))
    asking.start()
    try:
        until(lambda: upstream.count("/patient"), "it is asked")
        assert ask(port, "/hasty").status == 504
    finally:
        gate.set()
    asking.join()
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"done")]
