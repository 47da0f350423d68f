"""Reload: new versions come in force without a failed request, broken ones don't at all."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread

import pytest

from tests.support.client import ask
from tests.support.load import during
from tests.support.processes import Gateway, end, gateway
from tests.support.waiting import until


def text(echo: int, marker: str) -> str:
    """Return a gateway whose version shows in two places of one answer."""
    return f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes:
  - name: any
    match: {{path: /x}}
    upstream: echo
    rewrite: {{path: /{marker}}}
    response: {{body: "{{path: path, marker: '{marker}'}}"}}
"""


def test_fifty_reloads_under_load(echo: int) -> None:
    """No request fails, and each is decided by one version from beginning to end."""
    with gateway(text(echo, "v0"), workers=2) as running:

        def reload_fifty_times() -> None:
            for number in range(1, 51):
                running.write(text(echo, f"v{number}"))
                before = running.status()["version"]
                if reload(running)["version"] == before:
                    until(lambda old=before: running.status()["version"] != old, "a new version")  # type: ignore[misc]

        result = asyncio.run(
            during(f"http://127.0.0.1:{running.port}/x", reload_fifty_times, loops=4)
        )
    assert set(result.statuses) == {200}
    seen = set()
    for body in result.bodies:
        path, marker = body.decode().split('"')[3], body.decode().split('"')[7]
        assert path == f"/{marker}", body
        seen.add(marker)
    assert len(seen) > 10


def reload(running: Gateway) -> dict[str, str]:
    """Ask for a reload over the admin interface."""
    from extproc.adapters.admin import token_file  # noqa: PLC0415 - beside its use

    token = token_file(f"127.0.0.1:{running.admin}").read_text()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answer: dict[str, str] = ask(
        running.admin, "/reload", method="POST", headers=headers, body=b"{}", seconds=30
    ).json
    return answer


def test_a_change_is_noticed(echo: int) -> None:
    """Saving the file is enough."""
    with gateway(text(echo, "one")) as running:
        running.write(text(echo, "two"))
        until(lambda: running.ask("/x").json["marker"] == "two", "the change is in force")


@pytest.mark.parametrize("looks", [0, 2, 5, 10])
def test_a_stop_in_the_middle_of_a_reload(echo: int, looks: int) -> None:
    """Wherever it is then, the gateway ends well, and soon, and leaves nothing behind."""
    with gateway(text(echo, "one"), workers=2) as running:
        running.write(text(echo, "two"))
        asking = Thread(target=_asks_for_a_reload, args=[running], daemon=True)
        asking.start()
        for _ in range(looks):  # some milliseconds each, so that the stop comes at many places
            running.status()
        assert end(running.process) == 0, running.said()
        assert '"level":"error"' not in running.said()
        asking.join(10)
        assert not asking.is_alive()


def _asks_for_a_reload(running: Gateway) -> None:
    with suppress(OSError, HTTPException, ValueError):  # nobody may be left to answer
        reload(running)


def serves(running: Gateway, marker: str) -> bool:
    """Reload; say whether a version answers."""
    reload(running)
    return marker in running.ask("/x").body.decode()


def test_a_change_is_taken_back(echo: int) -> None:
    """The version of before serves again, though it was on its way out, and so does the next."""
    with gateway(text(echo, "one"), workers=2) as running:
        first = running.status()["version"]
        for marker in ("two", "one", "two"):
            running.write(text(echo, marker))
            until(partial(serves, running, marker), "the change is in force")
            replies = [running.ask("/x") for _ in range(20)]
            assert {reply.status for reply in replies} == {200}
            assert {reply.json["marker"] for reply in replies} == {marker}
            assert (running.status()["version"] == first) is (marker == "one")


def test_a_connection_from_before_takes_the_new_version(echo: int) -> None:
    """What clients may not say is taken off there as well, and with its next answer it ends."""
    told = 'identity: {headers: {x-role: "{principal.subject}"}}\n'
    before = text(echo, "one") + "  - {name: all, match: {path: /all}, upstream: echo}\n"
    with (
        gateway(before, workers=2) as running,
        closing(HTTPConnection("127.0.0.1", running.port, timeout=15)) as connection,
    ):
        assert said(connection) == ({"x-role": "admin", "x.role": "admin"}, "")
        version = running.status()["version"]
        running.write(told + before)
        until(lambda: running.status()["version"] != version, "the change is in force")
        assert said(connection) == ({}, "close")
        assert said(connection) == ({}, "")  # on another one, which knows of the change


def said(connection: HTTPConnection) -> tuple[dict[str, str], str]:
    """Say who one is; return what the upstream got of that, and whether the connection stays."""
    connection.request("GET", "/all", headers={"x-role": "admin", "x.role": "admin"})
    response = connection.getresponse()
    got = {name.lower(): value for name, value in json.loads(response.read())["headers"]}
    kept = {name: got[name] for name in ("x-role", "x.role") if name in got}
    return kept, response.headers.get("connection", "")


def test_a_change_of_the_listener_under_load(echo: int) -> None:
    """Connections that were open end one after the other, and no request is lost."""
    with gateway(text(echo, "v0"), workers=2) as running:

        def change_it_ten_times() -> None:
            for number in range(10):
                asked = [f"x-role{number}", f"x-team{number}"]
                told = "".join(f"{name}: '{{principal.subject}}', " for name in asked)
                running.write(f"identity: {{headers: {{{told}}}}}\n{text(echo, f'v{number + 1}')}")
                assert reload(running)["error"] is None

        result = asyncio.run(
            during(f"http://127.0.0.1:{running.port}/x", change_it_ten_times, loops=8)
        )
    assert set(result.statuses) == {200}


def test_a_broken_file_keeps_the_old_version(echo: int) -> None:
    """The running version stays, status and metrics say why; a repaired file is taken."""
    with gateway(text(echo, "one")) as running:
        version = running.status()["version"]
        running.write(text(echo, "two").replace("upstream: echo", "upstream: ehco"))
        until(lambda: not r_ok(running), "refused")
        last = running.status()["last_reload"]
        assert "did you mean echo?" in last["error"]
        assert "gateway.yaml:" in last["error"]
        assert running.status()["version"] == version
        assert running.ask("/x").json["marker"] == "one"
        metrics = ask(running.admin, "/metrics").body.decode()
        reloads = [line for line in metrics.splitlines() if "reloads_total{" in line]
        assert reloads == ['extproc_reloads_total{outcome="failed"} 1.0']
        running.write(text(echo, "three"))
        until(lambda: running.ask("/x").json["marker"] == "three", "the repaired file")
        until(lambda: r_ok(running), "status says so")


def test_a_version_that_had_no_room_is_tried_again(echo: int) -> None:
    """Nobody touches a file because a disk has room again."""
    own = "from extproc.core.plugin import Plugin\n\n\nclass Own(Plugin):\n    pass\n\n\n"
    with gateway(text(echo, "one"), {"own.py": own + "# comment\n" * 300_000}) as running:
        version, supervisor = running.status()["version"], running.process.pid
        usual = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (1 << 20, usual[1]))
        running.write(text(echo, "two") + "    plugins: [{use: 'own.py:Own'}]\n")
        until(lambda: not r_ok(running), "refused")
        assert "(it is tried again)" in running.status()["last_reload"]["error"]
        assert running.status()["version"] == version
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, usual)
        until(lambda: running.ask("/x").json["marker"] == "two", "there is room")
        until(lambda: r_ok(running), "status says so")


def r_ok(running: Gateway) -> bool:
    """Say whether the last reload went well."""
    return bool(running.status()["last_reload"]["ok"])


def test_what_is_bound_needs_a_restart(echo: int) -> None:
    """A reload that moves the listener is refused and says so."""
    with gateway(text(echo, "one")) as running:
        moved = running.headed(text(echo, "two")).replace(str(running.port), "1")
        (running.folder / "gateway.yaml").write_text(moved)
        until(lambda: not r_ok(running), "refused")
        assert "listener.address" in running.status()["last_reload"]["error"]
        assert running.ask("/x").json["marker"] == "one"


def test_a_worker_is_replaced_while_the_file_is_broken(echo: int) -> None:
    """A new worker starts with the version in force, not with the broken file."""
    with gateway(text(echo, "one")) as running:
        (running.folder / "gateway.yaml").write_text("broken: [")
        until(lambda: not r_ok(running), "refused")
        replaced(running)
        assert running.ask("/x").json["marker"] == "one"


def replaced(running: Gateway) -> None:
    """End every worker by force, and wait until others serve."""
    before = set(running.workers())
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(set(running.workers()) - before) == len(before), "they are replaced", 40)
    until(lambda: all(running.ask("/x").status == 200 for _ in range(20)), "all answer", 40)


def test_a_swapped_link_withdraws_a_permission(echo: int) -> None:
    """As a mounted ConfigMap changes: the old files stay as they are, one link leads elsewhere."""
    policy = "policies: {{mine: {{rules: [{{name: all, {}: 'true'}}]}}}}\n"
    with gateway(text(echo, "one")) as running:
        head = (running.folder / "gateway.yaml").read_text()
        whole = head.replace("upstream: echo", "upstream: echo\n    authorization: mine", 1)
        for number, effect in (("..1", "allow"), ("..2", "deny")):
            release = running.folder / number
            (release / "policies").mkdir(parents=True)
            (release / "policies" / "mine.yaml").write_text(policy.format(effect))
            (release / "gateway.yaml").write_text("policies: policies/\n" + whole)
        first = running.status()["version"]
        linked(running.folder / "..data", "..1")
        linked(running.folder / "gateway.yaml", "..data/gateway.yaml")
        until(lambda: running.status()["version"] != first, "the linked version is in force")
        assert running.ask("/x").status == 200
        linked(running.folder / "..data", "..2")
        until(lambda: running.ask("/x").status == 401, "the permission is withdrawn")


def linked(at: Path, target: str) -> None:
    """Make a link, or put it elsewhere, at once."""
    fresh = at.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(at)


def test_a_file_of_envoys_that_can_not_be_written(echo: int) -> None:
    """A full disk, for example: the old version serves on, wherever it stood, and it is said."""
    with gateway(text(echo, "start"), workers=2) as running:
        command = Path(f"/proc/{running.workers()[0]}/cmdline").read_text().split("\0")
        folder = Path(command[command.index("--revocations") + 1]).parent
        before = "start"
        for name in ("clusters", "egress", "routes"):
            version, file = running.status()["version"], folder / f"{name}.json"
            file.unlink()
            file.mkdir()  # nothing can be renamed to a folder
            running.write(text(echo, name))
            until(lambda: not r_ok(running), "refused")
            assert f"{name}.json" in running.status()["last_reload"]["error"]
            assert running.status()["version"] == version
            if name == "egress":  # and so do workers that come later
                replaced(running)
            assert {running.ask("/x").json["marker"] for _ in range(20)} == {before}
            file.rmdir()
            assert reload(running)["ok"]
            assert {running.ask("/x").json["marker"] for _ in range(20)} == {name}
            before = name


def refused_over(running: Gateway, name: str) -> bool:
    """Say whether the last reload was refused for what a plugin did."""
    last = running.status()["last_reload"]
    said = {"exits": "ended", "leaves": "ended", "imported": "SystemExit: 5"}
    return not last["ok"] and said.get(name, "KeyboardInterrupt") in last["error"]


OWN = """
import os
import sys
import time
from extproc import Plugin

class Own(Plugin):
    def on_start(self, services):
        {}
"""
KILLS = {
    "exits": OWN.format("os._exit(3)"),
    "leaves": OWN.format("sys.exit(1)"),
    "imported": "import sys; sys.exit(5)",
    "interrupted": "raise KeyboardInterrupt",
}


def test_a_version_that_ends_processes_is_refused(echo: int) -> None:
    """Supervisor and old version go on, and what happened is said."""
    with gateway(text(echo, "one"), workers=2) as running:
        version = running.status()["version"]
        for name, code in KILLS.items():
            (running.folder / f"{name}.py").write_text(code)
            own = f'    plugins: [{{use: "{name}.py:Own"}}]\n'
            running.write(text(echo, name) + own)
            until(partial(refused_over, running, name), name, 20)
            assert running.status()["version"] == version
            until(lambda: all(running.ask("/x").status == 200 for _ in range(10)), "served", 20)
            assert running.ask("/x").json["marker"] == "one"
            until(lambda: len(running.workers()) == 2, "both are back", 20)


def test_a_version_that_takes_long_to_start_is_waited_for(echo: int) -> None:
    """As at a start: a worker that loads isn't stuck."""
    slow = OWN.format("time.sleep(4)")
    with gateway(text(echo, "one"), {"slow.py": slow}) as running:
        before = running.workers()
        running.write(text(echo, "two") + '    plugins: [{use: "slow.py:Own"}]\n')
        until(lambda: running.ask("/x").json.get("marker") == "two", "it is in force", 20)
        assert running.workers() == before
