"""Real processes for tests: the gateway, an Envoy of its own, the service alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from extproc.adapters.envoy_binary import binary
from tests.support.client import Reply, ask
from tests.support.places import free_port, short_folder
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Gateway:
    """A running `extproc run`."""

    port: int
    admin: int
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, target: str = "/", **options: Any) -> Reply:
        """Make a request to the gateway."""
        return ask(self.port, target, **options)

    def status(self) -> Any:
        """Return `/status`."""
        return ask(self.admin, "/status").json

    def workers(self) -> list[int]:
        """Return the workers' process ids."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["ready"]]

    def write(self, text: str) -> None:
        """Replace the gateway file at once."""
        fresh = self.folder / "gateway.yaml.new"
        fresh.write_text(self.headed(text))
        fresh.replace(self.folder / "gateway.yaml")

    def headed(self, text: str) -> str:
        """Put version, listener and admin before the rest of a gateway file."""
        return head(self.port, self.admin) + text

    def said(self) -> str:
        """Return everything it wrote."""
        return self.log.read_text(errors="replace")


def head(port: int, admin: int) -> str:
    """Return the first lines of a gateway file."""
    return (
        "version: 1\n"
        f"listener: {{address: '127.0.0.1:{port}'}}\n"
        f"admin: {{address: '127.0.0.1:{admin}'}}\n"
    )


@contextmanager
def gateway(
    text: str,
    files: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    whole: bool = False,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """Run a gateway until the end of the block.

    Args:
        text: the gateway file after its head (or the whole of it).
        files: further files beside it.
        workers: how many.
        whole: `text` has its own head, with PORT and ADMIN to be filled in.
        options: of the command.
        environment: further variables.
    """
    with short_folder() as folder:
        port, admin = free_port(), free_port()
        for name, content in (files or {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        filled = text.replace("PORT", str(port)).replace("ADMIN", str(admin))
        (folder / "gateway.yaml").write_text(filled if whole else head(port, admin) + text)
        log = folder / "log"
        with log.open("wb") as output:
            process = start_run(folder / "gateway.yaml", output, workers, environment, options)
        running = Gateway(port, admin, folder, process, log)
        try:
            until(lambda: _ready(running), f"the gateway serves: {running.said()}", 40)
            yield running
        finally:
            end(process)
        _forgets_nothing(log)


def start_run(
    file: Path,
    output: IO[bytes],
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start `extproc run`."""
    return subprocess.Popen(
        [sys.executable, "-m", "extproc", "run", str(file), "--workers", str(workers), *options],
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | dict(environment or {}),
        cwd=ROOT,
    )


def _ready(running: Gateway) -> bool:
    if running.process.poll() is not None:
        raise AssertionError(f"the gateway ended: {running.said()}")
    return ask(running.admin, "/readyz").status == 200


def end(process: subprocess.Popen[bytes], seconds: float = 15.0) -> int:
    """End a process with SIGTERM, by force if need be; return its status."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def envoy(config: Any, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an Envoy with a whole configuration until the end of the block."""
    with short_folder() as folder:
        file = folder / "envoy.json"
        file.write_text(json.dumps(config))
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    binary(None),
                    "-c",
                    str(file),
                    "--disable-hot-restart",
                    "--log-level",
                    "warning",
                    "--concurrency",
                    "1",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:

            def serves() -> bool:
                assert process.poll() is None, log.read_text()
                return ask(port, "/__ready").status > 0

            until(serves, "Envoy listens")
            yield process
        finally:
            end(process)


@contextmanager
def service(
    file: Path,
    listen: str,
    egress: str = "127.0.0.1:1",
    *others: str,
    options: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `extproc serve` until the end of the block; waits until it is ready.

    Args:
        file: the gateway file.
        listen: where a worker listens.
        egress: where calls go out.
        others: where further workers listen.
        options: further ones of the command.
    """
    command = [sys.executable, "-m", "extproc", "serve", str(file)]
    command += [part for address in (listen, *others) for part in ("--listen", address)]
    log = file.parent / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--egress", egress, *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    try:

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            return '"event":"serving"' in log.read_text()

        until(serves, "the service serves", 40)
        yield process
    finally:
        end(process)
    _forgets_nothing(log)


def _forgets_nothing(log: Path) -> None:
    """Refuse tasks that failed or were left behind without anybody's notice."""
    forgotten = ("never retrieved", "was never awaited", "was destroyed but it is pending")
    said = [line for line in log.read_text().splitlines() if any(f in line for f in forgotten)]
    assert not said, said


def printed_envoy(file: Path, *options: str) -> Any:
    """Return what `extproc envoy` prints."""
    command = [sys.executable, "-m", "extproc", "envoy", str(file), *options]
    done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return json.loads(done.stdout)


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
