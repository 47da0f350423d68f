"""F: whatever is broken, nothing is let through; what `tests/e2e` holds isn't repeated here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import load
from tests.attacks.minting import jwk, token
from tests.attacks.place import Place, allowed, bearer, denied, quiet
from tests.attacks.wire import Upstream, exchange, request, running
from tests.e2e.test_reload import r_ok
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, Gateway, children, gateway, head
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Break = Callable[[Path], object]

REST = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:UPSTREAM"]}}
defaults: {authentication: none}
policies: policies/
routes:
  - {name: open, match: {path: /open}, upstream: echo, authorization: open}
  - {name: closed, match: {path: /closed}, upstream: echo, authorization: closed}
"""
TOKENS = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:UPSTREAM"]}}
authentication: {a: {jwt: {issuer: "http://issuer.test", audiences: [shop], jwks: keys.json}}}
routes:
  - {name: private, match: {path: /private}, upstream: echo, authentication: a}
"""
CLOCK = """
import time
now = time.time
time.time = lambda: now() + HOURS * 3600
"""
POLICY = """policies:
  open: {rules: [{name: all, allow: 'true'}]}
  closed: {rules: [{name: nobody, deny: 'true'}, {name: all, allow: 'true'}]}
"""


def bodies() -> dict[str, tuple[tuple[tuple[str, str], ...], bytes, set[int]]]:
    """Return framings of bodies, and what becomes of each on a route that sees bodies whole."""
    large, chunk = b"x" * (2 << 20), b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = ("Transfer-Encoding", "chunked")
    return {
        "too large": ((), large, {413}),
        "too large in chunks": ((chunked,), chunk * 32 + b"0\r\n\r\n", {413}),
        "too large, announced": (
            (("Content-Length", str(2 << 20)), ("Expect", "100-continue")),
            large,
            {413},
        ),
        "no length": ((), b"", {200}),
        "length 0": ((("Content-Length", "0"),), b"", {200}),
        "no chunk": ((chunked,), b"0\r\n\r\n", {200}),
        "both framings": ((chunked, ("Content-Length", "5")), b"0\r\n\r\n", {400}),
        "two lengths": ((("Content-Length", "1"), ("Content-Length", "2")), b"{}", {400}),
        "no such framing": ((("Transfer-Encoding", "xchunked"),), b"{}", {400}),
        "a truncated document": ((), b'{"n": ', {400}),
    }


@pytest.mark.parametrize("name", bodies())
def test_F6_bodies_that_must_be_seen_whole(place: Place, name: str) -> None:
    """F6: over the bound 413; never a part of a body; 401 before any of it is judged."""
    headers, body, statuses = bodies()[name]
    seen = place.send(request("/bodies/x", bearer(token()), *headers, method="POST", body=body))
    assert seen.status in statuses, seen
    assert bool(seen.received) == (seen.status == 200)
    nobody = place.send(request("/bodies/x", *headers, method="POST", body=body))
    assert nobody.status in {400, 401, 413}
    assert not nobody.received


def test_F11_no_rule_two_rules_and_no_route(place: Place) -> None:
    """F11: nobody's rule denies, deny wins, and what no route takes is nowhere."""
    good = bearer(token())
    denied(place, place.get("/x", good, host="list.test"), 403, "no_rule_allows")
    denied(place, place.get("/roles/x", good, ("x-role", "admin")), 403, "role_admin")
    for target, host in (("/nowhere", "shop.test"), ("/private", "shop.test"), ("/", "x.test")):
        seen = place.get(target, good, host=host)
        assert (seen.status, seen.answer.reason, seen.received) == (404, "no_route", ())
        assert place.record(seen)["by"] == "envoy"


@pytest.mark.parametrize(
    "value", ["Bearer a.b.c", "Bearer", "Basic YTpi", "Negotiate x", "x", "Bearer ", ","]
)
def test_F13_an_invalid_credential_is_never_anonymous(place: Place, value: str) -> None:
    """F13: where a credential is optional, none is nobody and a bad one is refused."""
    allowed(place, place.get("/optional/x"))
    seen = place.get("/optional/x", ("Authorization", value))
    denied(place, seen, 401, "malformed", "unauthenticated", "credential", "scheme")


def test_F15_local_replies_are_judged_once(place: Place) -> None:
    """F15: an upstream that isn't there, retried: one decision, an answer, and no crash."""
    before = place.gateway.workers()
    for _ in range(5):
        seen = place.get("/dead/x", bearer(token()))
        assert (seen.status, seen.answer.reason) == (502, "upstream_failed"), seen
        assert place.record(seen)["decision"] == "allow"
        denied(place, place.get("/dead/x"), 401, "unauthenticated")
    assert place.gateway.workers() == before


def test_F12_a_full_disk_changes_no_decision() -> None:
    """F12: records that can't be written are lost, and nothing else is."""
    upstream = Upstream()
    text = REST.replace("UPSTREAM", str(upstream.port)) + "decisions: {file: /dev/full}\n"
    with running(upstream), gateway(text, {"policies/p.yaml": POLICY}) as started:
        for _ in range(20):
            assert exchange(started.port, request("/open")).status == 200
            assert exchange(started.port, request("/closed")).status == 401
        assert len(upstream.received) == 20


@pytest.mark.parametrize(("hours", "statuses"), [(0, {200}), (1, {401}), (-1, {401})])
def test_F12_a_clock_that_is_wrong_lets_nobody_in(
    tmp_path: Path, hours: int, statuses: set[int]
) -> None:
    """F12: tokens of ten minutes, under a clock that is an hour off: denied, either way."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK.replace("HOURS", str(hours)))
    upstream = Upstream()
    text = TOKENS.replace("UPSTREAM", str(upstream.port))
    files = {"keys.json": json.dumps({"keys": [jwk("rsa")]})}
    with (
        running(upstream),
        gateway(text, files, environment={"PYTHONPATH": str(tmp_path)}) as started,
    ):
        answers = [exchange(started.port, request("/private", bearer(token()))) for _ in range(5)]
        assert {answer.status for answer in answers} == statuses
        assert exchange(started.port, request("/private")).status == 401


def test_F12_without_file_descriptors_nobody_gets_in() -> None:
    """F12: a worker and an Envoy that can open nothing more: decided as before, or denied."""
    upstream = Upstream()
    text = REST.replace("UPSTREAM", str(upstream.port))
    with running(upstream), gateway(text, {"policies/p.yaml": POLICY}) as started:
        assert exchange(started.port, request("/open")).status == 200
        everyone = children(started.process.pid)
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in everyone}
        try:
            for pid in everyone:
                used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[pid][1]))
            for _ in range(20):
                assert _status(started.port, "/open") in {0, 200, 500, 502, 503, 504}
                assert _status(started.port, "/closed") in {0, 401, 500, 502, 503, 504}
        finally:
            for pid, limit in before.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        until(lambda: _status(started.port, "/open") == 200, "it goes on")
        assert _status(started.port, "/closed") == 401
    assert {got.path for got in upstream.received} == {"/open"}


def _status(port: int, target: str) -> int:
    """Return an answer's status; 0 for none."""
    try:
        return exchange(port, request(target), seconds=2.0).status
    except OSError:
        return 0


def _text(change: Callable[[str], str]) -> Break:
    return lambda file: file.write_text(change(file.read_text()))


def _bytes(data: bytes) -> Break:
    return lambda file: file.write_bytes(data)


def _gone(file: Path) -> None:
    file.unlink()


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _link(target: str) -> Break:
    def change(file: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    return change


def _aliases() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


BROKEN: dict[str, tuple[str, Break]] = {
    "gateway: empty": ("gateway.yaml", _bytes(b"")),
    "gateway: half written": ("gateway.yaml", _text(lambda t: t[: len(t) * 2 // 3])),
    "gateway: tabs": ("gateway.yaml", _text(lambda t: t.replace("  - {", "\t- {"))),
    "gateway: aliases": ("gateway.yaml", _bytes(_aliases())),
    "gateway: objects": (
        "gateway.yaml",
        _text(lambda t: t + "x: !!python/object/apply:os.system [id]\n"),
    ),
    "gateway: twice": ("gateway.yaml", _text(lambda t: t + "defaults: {}\n")),
    "gateway: unknown": ("gateway.yaml", _text(lambda t: t + "requierd_scopes: [x]\n")),
    "gateway: version": ("gateway.yaml", _text(lambda t: t.replace("version: 1", "version: 99"))),
    "gateway: latin-1": ("gateway.yaml", _bytes(b"version: 1\n# \xff\n")),
    "gateway: mark": ("gateway.yaml", _text(lambda t: "\ufeff" + t)),
    "gateway: large": ("gateway.yaml", _text(lambda t: t + "#" * (2 << 20))),
    "gateway: gone": ("gateway.yaml", _gone),
    "gateway: a folder": ("gateway.yaml", _directory),
    "policy: empty": ("policies/p.yaml", _bytes(b"")),
    "policy: half written": ("policies/p.yaml", _text(lambda t: t[: len(t) // 2])),
    "policy: unknown": ("policies/p.yaml", _text(lambda t: t.replace("allow", "alow"))),
    "policy: no condition": ("policies/p.yaml", _text(lambda t: t.replace("'true'", "'tru'"))),
    "policy: gone": ("policies/p.yaml", _gone),
    "policy: a folder": ("policies/p.yaml", _directory),
    "policy: a link elsewhere": ("policies/p.yaml", _link("/etc/passwd")),
    "policy: a link to nothing": ("policies/p.yaml", _link("nothing")),
    "policy: a link to itself": ("policies/p.yaml", _link("p.yaml")),
}


def written(folder: Path, port: int) -> Path:
    """Write the good files."""
    shutil.rmtree(folder / "policies", ignore_errors=True)
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "p.yaml").write_text(POLICY)
    file = folder / "gateway.yaml"
    if file.is_dir():
        file.rmdir()
    fresh = folder / "fresh"
    fresh.write_text(head(port, free_port()) + REST.replace("UPSTREAM", "1"))
    fresh.replace(file)
    return file


@pytest.mark.parametrize("name", BROKEN)
def test_F8_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    """F8: with the error that `check`, `run` and a reload all tell in the same words."""
    place, change = BROKEN[name]
    file = written(tmp_path, 1)
    load(file, {})
    change(tmp_path / place)
    with pytest.raises(ConfigError) as caught:
        assemble(load(file, {}))
    assert str(caught.value)


def test_F8_a_broken_file_at_the_start() -> None:
    """F8: exit status 1 and a message; never a traceback."""
    names = ["gateway: half written", "gateway: gone", "policy: a link to itself"]
    with short_folder() as folder:
        started = {name: _started(folder / str(n), name) for n, name in enumerate(names)}
        for name, process in started.items():
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 1, (name, said)
            assert "Traceback" not in said, (name, said)
            assert ".yaml" in said, (name, said)


def _started(folder: Path, name: str) -> subprocess.Popen[str]:
    file = written(folder, free_port())
    place, change = BROKEN[name]
    change(folder / place)
    return subprocess.Popen(
        [sys.executable, "-m", "extproc", "run", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def reloaded() -> Iterator[tuple[Gateway, Upstream]]:
    """Run a gateway whose files are broken again and again."""
    upstream = Upstream()
    text = REST.replace("UPSTREAM", str(upstream.port))
    with running(upstream), gateway(text, {"policies/p.yaml": POLICY}) as started:
        yield started, upstream


@pytest.mark.parametrize("name", BROKEN)
def test_F8_a_broken_file_while_running(reloaded: tuple[Gateway, Upstream], name: str) -> None:
    """F8: the running version stays, status and metrics say so; a repaired file is taken."""
    started, upstream = reloaded
    place, change = BROKEN[name]
    good = (started.folder / "gateway.yaml").read_text()
    version = started.status()["version"]
    until(lambda: r_ok(started), "the file is good")
    change(started.folder / place)
    until(lambda: not r_ok(started), "it is refused")
    assert started.status()["last_reload"]["error"]
    assert started.status()["version"] == version
    before = len(upstream.received)
    assert exchange(started.port, request("/open")).status == 200
    assert exchange(started.port, request("/closed")).status == 401
    assert [got.path for got in upstream.received[before:]] == ["/open"]
    written(started.folder, started.port)
    _replaced(started.folder / "gateway.yaml", good)
    until(lambda: r_ok(started), "the repaired file")
    _only_refusals(started.said())


def _replaced(file: Path, text: str) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)


def _only_refusals(said: str) -> None:
    """Expect JSON lines, whose errors are those of refused reloads."""
    lines = [line for line in said.splitlines() if '"decision":' not in line]
    refusals = [line for line in lines if '"level":"error"' in line]
    assert all("reload" in line or "refused" in line for line in refusals), refusals
    quiet("\n".join(line for line in lines if line not in refusals))


def test_F8_a_file_that_can_not_be_read(reloaded: tuple[Gateway, Upstream]) -> None:
    """F8: as far as rights bind whoever runs this."""
    started, _ = reloaded
    if os.geteuid() == 0:
        assert (started.folder / "gateway.yaml").exists()  # the rights of a file don't bind root
        return
    file = started.folder / "policies" / "p.yaml"
    file.chmod(0)
    (started.folder / "policies" / "more.yaml").write_text("policies: {}\n")
    until(lambda: not r_ok(started), "it is refused")
    file.chmod(0o600)
    until(lambda: r_ok(started), "it can be read")
