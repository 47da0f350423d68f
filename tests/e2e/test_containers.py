"""The parts of docker-compose.yml, started by its commands as processes on this host."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from extproc.adapters.envoy_binary import binary
from tests.support.client import ask
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, end
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from examples.shop.processes import Shop
    from tests.support.redis_server import RedisServer


@contextmanager
def started(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container's command in the folder that it has there."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        end(process)


def installed(folder: Path) -> None:
    """Put there what the image has on its path."""
    script = f'#!/bin/sh\nexec {sys.executable} -m extproc "$@"\n'
    (folder / "extproc").write_text(script)
    (folder / "extproc").chmod(0o755)
    (folder / "envoy").symlink_to(binary(None))


def test_what_compose_starts_belongs_together(shop: Shop, redis: RedisServer) -> None:
    """The service and an Envoy of its own, from one gateway file and one environment."""
    services: Any = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    serving, carrying = services["service"], services["envoy"]
    assert serving["environment"] == carrying["environment"]  # it is part of the version
    port, admin, inside, egress, own = (free_port() for _ in range(5))
    changed = {"SHOP_LISTEN": f"127.0.0.1:{port}", "SHOP_STORE": redis.url}
    assert serving["environment"].keys() == changed.keys()
    changed |= shop.environment() | {"SHOP_ADMIN": f"127.0.0.1:{admin}"}

    def command(words: list[str]) -> list[str]:
        return [f"127.0.0.1:{inside}" if word == "127.0.0.1:9191" else word for word in words]

    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        installed(folder)
        changed |= {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        environment = os.environ | changed
        out = ["--egress", f"127.0.0.1:{egress}"]
        for name, words in (
            ("service", ["extproc", *command(serving["command"]), *out]),
            (
                "envoy",
                [
                    *carrying["entrypoint"],
                    *command(carrying["command"]),
                    *out,
                    *("--admin", f"127.0.0.1:{own}"),
                ],
            ),
        ):
            log = folder / f"{name}.log"
            process = stack.enter_context(started(words, environment, log))
            where = {"service": admin, "envoy": own}[name]

            def ready() -> bool:
                assert process.poll() is None, log.read_text()  # noqa: B023 - called at once
                return ask(where, "/ready" if where == own else "/readyz").status == 200  # noqa: B023

            until(ready, f"{name} is ready", 40)
        until(lambda: ask(port, "/products").status == 200, "the service is healthy")
