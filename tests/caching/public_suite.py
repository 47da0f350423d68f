"""The public HTTP cache tests (cache-tests.fyi) against a gateway: `make cache-suite`.

They are had by npm (`http-cache-tests`, BSD-3-Clause), which has an old version of them, and run as
they are. `make cache-suite SUITE=FOLDER` runs a checkout of the newest, from
github.com/http-tests/cache-tests with its npm packages installed. Which tests can't pass is said
below, each with the reason; any other that fails ends this with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.client import ask
from tests.support.places import free_port, short_folder
from tests.support.processes import end, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "http-cache-tests@0.4.5"
PLACE = Path(__file__).parents[2] / ".venv" / "cache-tests"
TESTS = PLACE / "node_modules" / "http-cache-tests"
TEXT = """
version: 1
listener: {address: "127.0.0.1:PORT", compression: []}
admin: {address: "127.0.0.1:ADMIN"}
upstreams: {origin: {endpoints: ["http://127.0.0.1:%d"]}}
defaults: {authentication: none}
routes:
  - {name: test, match: {path: "/test/*", methods: any}, upstream: origin, cache: {shared: true}}
  - {name: rest, match: {path: "/*", methods: any}, upstream: origin}
"""

# The old version expects this; the newest doesn't.
_AGE = "RFC 9111 section 5.1: of a list the first member counts, and what is no number is ignored"
_CLOSED = "the harness wants a header of the origin on an answer to a connection that it closed"
_COOKIE = "a response with Set-Cookie is not stored: nobody gets another one's cookie"
_PART = "its Content-Range is longer than its body, so nobody can say which bytes it holds"
WHY_NOT = {
    **{
        f"age-parse-{name}": _AGE
        for name in (
            *("nonnumeric", "negative", "float", "prefix-twoline", "dup-0", "dup-0-twoline"),
            *("dup-old", "parameter", "numeric-parameter"),
        )
    },
    **{
        f"stale-close-{name}": _CLOSED
        for name in ("must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=2")
    },
    "headers-store-Set-Cookie": _COOKIE,
    "304-etag-update-response-Set-Cookie": _COOKIE,
    "other-set-cookie": _COOKIE,
    "headers-store-Transfer-Encoding": "the origin sends a transfer coding that doesn't exist",
    "304-etag-update-response-ETag": "a 304 with another strong validator updates nothing (4.3.4)",
    "freshness-max-age-s-maxage-shared-longer-multiple": "Envoy joins lines without a blank",
    "conditional-lm-fresh-no-lm": "without Last-Modified the Date decides (section 4.3.2)",
    "method-POST": "a POST's response is stored where a route says so, by its body",
    "status-400-fresh": "a 400 may be about one request: it is stored where `statuses` names it",
    "vary-normalise-space": "only fields that are known to be lists are compared as lists",
    "vary-normalise-lang-select": "which language an origin would choose isn't guessed",
    "partial-store-partial-reuse-partial": _PART,
    "partial-store-partial-reuse-partial-byterange": _PART,
    "partial-store-partial-reuse-partial-absent": _PART,
    "partial-store-partial-reuse-partial-suffix": _PART,
    "partial-store-partial-complete": "parts are joined with a strong validator alone (3.4)",
}
_LIST = """
import tests from './tests/index.mjs'
const found = tests.flatMap(suite => suite.tests).filter(test => !test.browser_only)
console.log(JSON.stringify(Object.fromEntries(found.map(t => [t.id, t.kind || 'required']))))
"""


def install() -> str:
    """Get the tests by npm; return why that isn't possible, empty if it is done."""
    if shutil.which("node") is not None and TESTS.is_dir():
        return ""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "npm and node aren't installed"
    PLACE.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    done = subprocess.run(command, cwd=PLACE, check=False, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _engine(suite: Path) -> str:
    """Return where the programs are: newer versions have them in a folder of their own."""
    return "test-engine/" if (suite / "test-engine").is_dir() else ""


@contextmanager
def _server(suite: Path) -> Iterator[int]:
    port = free_port()
    with short_folder() as folder:
        environment = os.environ | {
            "npm_config_protocol": "http",
            "npm_config_port": str(port),
            "npm_config_pidfile": str(folder / "pid"),
        }
        process = subprocess.Popen(
            ["node", f"{_engine(suite)}server/server.mjs"],
            cwd=suite,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: ask(port, "/").status > 0, "the origin answers")
            yield port
        finally:
            end(process)


def results(suite: Path) -> dict[str, Any]:
    """Run every test; return what came of each: true, or the kind of failure and its text."""
    with _server(suite) as port, gateway(TEXT % port, whole=True) as running:
        environment = os.environ | {
            "npm_config_base": f"http://127.0.0.1:{running.port}",
            "npm_config_id": "",
            "npm_package_config_id": "",
        }
        done = subprocess.run(
            ["node", "--no-warnings", f"{_engine(suite)}cli.mjs"],
            cwd=suite,
            env=environment,
            check=True,
            capture_output=True,
            timeout=300,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kinds(suite: Path) -> dict[str, str]:
    """Return each test's kind: required, optimal or check."""
    done = subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "-e", _LIST],
        cwd=suite,
        check=True,
        capture_output=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    """Run, print the counts, and say what failed."""
    arguments = argparse.ArgumentParser(prog="make cache-suite", description=__doc__)
    arguments.add_argument("--suite", type=Path, help="a checkout; without it the one of npm")
    suite: Path | None = arguments.parse_args().suite
    if suite is None:
        why, suite = install(), TESTS
        if why:
            _say(f"not run: {why}")
            return
    passed, every, failed = Counter[str](), Counter[str](), []
    came = results(suite)
    for name, kind in kinds(suite).items():
        every[kind] += 1
        passed[kind] += came.get(name) is True
        if came.get(name) is not True and kind != "check":
            failed.append(name)
    for name in failed:
        _say(f"  {name}: {WHY_NOT.get(name) or came.get(name)}")
    ours = [name for name in failed if WHY_NOT.get(name) == _AGE]
    _say(", ".join(f"{kind}: {passed[kind]} of {every[kind]}" for kind in ("required", "optimal")))
    if ours:
        _say(f"{len(ours)} of the required expect what the RFC's final text no longer says")
    unexpected = sorted(set(failed) - set(WHY_NOT))
    if unexpected:
        sys.exit(f"failed without a known reason: {', '.join(unexpected)}")


if __name__ == "__main__":
    main()
