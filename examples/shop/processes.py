"""The shop's upstreams as processes, started together and ended together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

_ROOT = Path(__file__).parents[2]
_STOP_WITHIN = 3.0
# Name of the upstream: module and further arguments.
_SERVICES: dict[str, tuple[str, ...]] = {
    "catalog": ("catalog",),
    "users": ("users",),
    "orders": ("orders", "--name", "a"),
    "orders2": ("orders", "--name", "b"),
    "inventory": ("inventory",),
    "legacy": ("legacy",),
    "ads": ("ads",),
    "flaky": ("flaky",),
    "echo": ("echo",),
    "issuer": ("issuer",),
}
DEMO_PORTS = {
    "catalog": 9100,
    "users": 9101,
    "orders": 9102,
    "orders2": 9103,
    "inventory": 9104,
    "legacy": 9105,
    "ads": 9106,
    "flaky": 9107,
    "echo": 9108,
    "issuer": 9200,
}


class NotStarted(RuntimeError):
    """An upstream ended before it listened, most often because its port is taken."""


class Shop:
    """A context manager: the upstreams run inside it.

    Attributes:
        ports: of each upstream, known once they run.
    """

    def __init__(
        self, ports: Mapping[str, int] | None = None, only: Iterable[str] | None = None
    ) -> None:
        self._wanted = dict(ports or {})
        self._names = tuple(only or _SERVICES)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start every upstream and wait until each listens.

        Raises:
            NotStarted: one doesn't.
        """
        try:
            for name in self._names:
                self._processes[name] = self._start(name)
            for name, process in self._processes.items():
                self.ports[name] = _port(name, process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every upstream."""
        self._stop()

    def environment(self) -> dict[str, str]:
        """Return a variable for each port, as the example's gateway file names them."""
        return {f"SHOP_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}

    def _start(self, name: str) -> subprocess.Popen[str]:
        module, *arguments = _SERVICES[name]
        return subprocess.Popen(  # noqa: S603 - our own modules
            [
                sys.executable,
                "-m",
                f"examples.shop.{module}",
                "--port",
                str(self._wanted.get(name, 0)),
                *arguments,
            ],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _port(name: str, process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    line = process.stdout.readline()
    if not line.startswith("listening on "):
        raise NotStarted(f"{name} didn't start; is its port taken?")
    return int(line.rpartition(":")[2])


def _main() -> None:
    """Run the upstreams on the demonstration's ports until SIGTERM or Ctrl-C."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Shop(DEMO_PORTS):
        sys.stdout.write("every upstream listens\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    _main()
