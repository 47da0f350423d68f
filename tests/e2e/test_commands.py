"""The command line and the administration interface, as people and scripts use them."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extproc.adapters.admin import token_file
from extproc.core.addresses import EVERYWHERE
from tests.support.client import ask
from tests.support.places import free_port
from tests.support.processes import ROOT, end, gateway, head, start_run
from tests.support.waiting import until

SHOP = str(ROOT / "examples" / "shop" / "gateway.yaml")


def extproc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command; `options` are of the process."""
    return subprocess.run(
        [sys.executable, "-m", "extproc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
        env=os.environ | {"COLUMNS": "120"},
        **options,
    )


@pytest.mark.parametrize("command", ["run", "serve", "check", "envoy", "schema", "demo"])
def test_help(command: str) -> None:
    """Each command says what it does and takes."""
    assert command in extproc("--help").stdout
    done = extproc(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["check"],
        ["nothing"],
        ["run", SHOP, "--workers", "0"],
        ["serve", SHOP],
        ["envoy", SHOP, "--for", "apache"],
        ["envoy", SHOP, "--part", "x"],
        ["serve", SHOP, "--listen", "nowhere"],
        ["serve", SHOP, "--listen", "127.0.0.1:65536"],
        ["serve", SHOP, "--listen", "127.0.0.1:" + "9" * 5000],
        ["serve", SHOP, "--listen", "unix:/" + "a" * 107],
        ["serve", SHOP, "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"],
        ["serve", SHOP, "--listen", "127.0.0.1:0"],
        ["serve", SHOP, "--listen", "127.0.0.1:1", "--egress", "127.0.0.1"],
        ["serve", SHOP, "--listen", "127.0.0.1:1", "--tls-cert", SHOP, "--tls-key", SHOP],
        ["serve", SHOP, "--listen", "127.0.0.1:1", "--tls-cert", "/no", "--tls-key", "/no"],
        ["explain", SHOP, "GET", "/", "--address", "here"],
        ["run", SHOP, "--server", "other"],
        ["envoy", SHOP, "--service", "host:"],
        ["envoy", SHOP, "--admin", "9902"],
        ["envoy", SHOP, "--egress", "127.0.0.1:x"],
        ["envoy", SHOP, "--egress", "localhost:9901"],
        ["envoy", SHOP, "--admin", "localhost:9902"],
        ["envoy", SHOP, "--service", "unix:/s", "--service", "localhost:9191"],
        ["envoy", SHOP, "--service", "unix:/s", "--service-ca", SHOP],
        ["envoy", SHOP, "--service-cert", SHOP, "--service-key", SHOP],
        ["purge", "--all", "--admin", "127.0.0.1:abc"],
        ["purge", "--all", "--admin", "127.0.0.1"],
        ["revoke", "--jti", "x", "--admin", "http://127.0.0.1:9900"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    """Exit 2 and a message, never a traceback."""
    done = extproc(*arguments)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", SHOP, "--request", "/dev/zero"], "/dev/zero is larger than 64 MiB"),
        (["explain", SHOP, "GET", "/", "--body", "/dev/zero"], "/dev/zero is larger than 64 MiB"),
        (["explain", SHOP, "GET", "/", "--response", "/dev/zero"], "/dev/zero is larger"),
        (["explain", SHOP, "--id", "x", "--decisions", "/dev/zero"], "/dev/zero: line 1 is longer"),
        (["explain", "/dev/zero", "GET", "/"], "/dev/zero:1:1: is no regular file"),
        (["test", "/dev/zero"], "/dev/zero is neither a file nor a folder"),
        (["check", "/dev/zero"], "/dev/zero:1:1: is no regular file"),
        (["replay", "/dev/zero", "--against", SHOP], "/dev/zero: line 1 is longer"),
        (["replay", "-", "--against", SHOP], "standard input: line 1 is longer than 16 MiB"),
        (["token", "--issuer-key", "/dev/zero"], "/dev/zero is larger than 64 MiB"),
    ],
)
def test_what_has_no_end_is_not_read_to_it(arguments: list[str], said: str) -> None:
    """Each command that reads a file ends, and says why."""
    with Path("/dev/zero").open("rb") as endless:
        done = extproc(*arguments, stdin=endless, preexec_fn=_little_memory)
    assert done.returncode in {1, 2}, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _little_memory() -> None:
    """So that a command which reads on ends as well."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """`check` says that it is none."""
    os.mkfifo(tmp_path / "keys.json")
    (tmp_path / "gateway.yaml").write_text(
        "version: 1\nauthentication: {a: {jwt: {issuer: i, audiences: [a], jwks: keys.json}}}\n"
    )
    done = extproc("check", str(tmp_path / "gateway.yaml"))
    assert done.returncode == 1
    assert "names keys.json, which is no regular file" in done.stderr


@pytest.mark.parametrize("admin", ["ho\tst:1", "127.0.0.1:1"])
def test_an_admin_address_that_is_none(admin: str) -> None:
    """One line says so."""
    done = extproc("revoke", "--jti", "x", "--token", "t", "--admin", admin)
    assert done.returncode == 1
    assert "doesn't answer as a gateway's admin address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("purge", "--all"), ("revoke", "--jti", "x")])
def test_another_server_than_a_gateway(command: tuple[str, ...], echo: int) -> None:
    """One that answers in JSON is told from a gateway."""
    done = extproc(*command, "--token", "t", "--admin", f"127.0.0.1:{echo}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "doesn't answer as a gateway's admin address: nothing says" in done.stderr
    assert "Traceback" not in done.stderr


def test_check(tmp_path: Path) -> None:
    """0 and the version, or 1 and where it is wrong."""
    good = extproc("check", SHOP, "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["ok"]
    broken = tmp_path / "gateway.yaml"
    broken.write_text("version: 1\nlistner: {}\n")
    for command in (["check"], ["run"], ["envoy"]):
        done = extproc(*command, str(broken))
        assert done.returncode == 1
        assert "gateway.yaml:2:1: listner: unknown key, did you mean listener?" in done.stderr
    troubles = json.loads(extproc("check", str(broken), "--json").stdout)["troubles"]
    assert {trouble["key"] for trouble in troubles} >= {"listner"}
    absent = extproc("check", str(tmp_path / "absent.yaml"))
    assert absent.returncode == 1
    assert "can't be read" in absent.stderr


def test_schema_and_envoy_print_json() -> None:
    """Both are for programs."""
    assert json.loads(extproc("schema").stdout)["properties"]["routes"]
    assert json.loads(extproc("envoy", SHOP).stdout)["static_resources"]
    for part in ("filters", "routes", "clusters", "egress"):
        assert json.loads(extproc("envoy", SHOP, "--part", part).stdout)


def test_an_output_that_is_full() -> None:
    """One line says so."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "extproc", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "extproc: No space left on device\n")


def test_an_admin_socket(echo: int, tmp_path: Path) -> None:
    """What is there and no socket stays, one in use too; one that was left behind is taken over."""
    text = f"""
version: 1
listener: {{address: "127.0.0.1:PORT"}}
admin: {{address: "unix:PLACE"}}
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""
    place, file = tmp_path / "a", tmp_path / "gateway.yaml"
    file.write_text(text.replace("PLACE", str(place)).replace("PORT", str(free_port())))
    place.write_text("mine")
    wanted = r"gateway.yaml:4:18: admin.address: unix:\S+/a can't be bound: address already in use"
    done = extproc("run", str(file))
    assert (done.returncode, place.read_text()) == (1, "mine")
    assert re.search(wanted, done.stderr), done.stderr
    place.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen()
        assert re.search(wanted, extproc("run", str(file)).stderr)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = start_run(file, output)
    try:
        until(lambda: '"event":"serving"' in log.read_text(), "it serves", 30)
        assert place.stat().st_mode & 0o777 == 0o600
    finally:
        end(process)
    assert not place.exists()


def test_an_admin_address_that_stands_for_all(echo: int, tmp_path: Path) -> None:
    """By every name of the machine a change is taken from who has the token, and commands find it.

    A container's is reached by the name of its service, which nobody knows in it.
    """
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""
    file, log, admin = tmp_path / "gateway.yaml", tmp_path / "log", free_port()
    bound = head(free_port(), admin).replace(f"127.0.0.1:{admin}", f"{EVERYWHERE[0]}:{admin}")
    file.write_text(bound + text)
    with log.open("wb") as output:
        process = start_run(file, output)
    try:
        until(lambda: '"event":"serving"' in log.read_text(), "it serves", 40)
        for name in ("127.0.0.1", "localhost", EVERYWHERE[0]):
            done = extproc("purge", "--all", "--admin", f"{name}:{admin}")
            assert (done.returncode, done.stderr) == (0, ""), name
        body, kind = b"{}", {"content-type": "application/json"}
        elsewhere = kind | {"Host": f"gateway:{admin}"}
        assert ask(admin, "/reload", method="POST", headers=elsewhere, body=body).status == 401
        token = token_file(f"{EVERYWHERE[0]}:{admin}").read_text()
        known = elsewhere | {"authorization": f"Bearer {token}"}
        assert ask(admin, "/reload", method="POST", headers=known, body=body).status == 200
    finally:
        end(process)


def test_an_envoy_that_isnt_there() -> None:
    """A message says what to do."""
    done = extproc("run", SHOP, "--envoy", "/no/such/envoy")
    assert done.returncode == 1
    assert "is no program" in done.stderr


def test_a_port_that_is_taken(echo: int, tmp_path: Path) -> None:
    """The gateway doesn't start, and says which address it was, and where it is named."""
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""
    with gateway(text) as running:
        done = extproc("run", str(running.folder / "gateway.yaml"))
        assert done.returncode == 1
        where = r"gateway.yaml:\d+:\d+: {}: 127.0.0.1:{} can't be bound: address already in use"
        for name, port in (("listener.address", running.port), ("admin.address", running.admin)):
            assert re.search(where.format(name, port), done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        assert running.ask("/x").status == 200
    nowhere = "listener: {address: '192.0.2.1:80'}\nadmin: {address: 'no.such.host.invalid:1'}\n"
    (tmp_path / "gateway.yaml").write_text(f"version: 1\n{nowhere}{text}")
    done = extproc("run", str(tmp_path / "gateway.yaml"))
    assert done.returncode == 1
    assert len(re.findall("can't be bound: ", done.stderr)) == 2


def test_a_listening_address_that_can_t_be_bound(tmp_path: Path) -> None:
    """It is named, with the reason, before a worker starts."""
    file = tmp_path / "gateway.yaml"
    routes = "routes: [{name: any, match: {path: /*}, upstream: u}]\n"
    upstreams = "upstreams: {u: {endpoints: ['http://127.0.0.1:9']}}\n"
    admin = f"admin: {{address: '127.0.0.1:{free_port()}'}}\n"
    first = f"version: 1\nlistener: {{address: '127.0.0.1:1'}}\n{admin}"
    file.write_text(f"{first}{upstreams}defaults: {{authentication: none}}\n{routes}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for address, why in (
            (f"unix:{tmp_path}/nowhere/x", "no such file or directory"),
            (f"127.0.0.1:{port}", "address already in use"),
        ):
            done = extproc("serve", str(file), "--listen", address)
            assert done.returncode == 1
            assert done.stderr == f"--listen {address} can't be bound: {why}\n"


@pytest.mark.parametrize("key", ["decisions", "revocations"])
@pytest.mark.parametrize("command", [["run"], ["serve", "--listen", "unix:{folder}/s"]])
def test_a_file_that_can_t_be_written(command: list[str], key: str, tmp_path: Path) -> None:
    """The key that names it is told, with its place."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"{key}: {{file: {tmp_path}/none/x.jsonl}}\n"
        + head(free_port(), free_port())
        + "upstreams: {one: {endpoints: ['http://127.0.0.1:1']}}\n"
        + "routes: [{name: one, match: {path: /*}, upstream: one, authentication: none}]\n"
    )
    done = extproc(*[word.format(folder=tmp_path) for word in command], str(file))
    assert done.returncode == 1
    place = f"{file}:1:{len(key) + 10}: {key}.file: {tmp_path}/none/x.jsonl "
    assert done.stderr == f"{place}can't be written: no such file or directory\n"


@pytest.mark.parametrize("command", [["run"], ["serve", "--listen", "unix:{folder}/s"]])
def test_a_token_that_can_not_be_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    """Says where, and what to do."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        head(free_port(), free_port())
        + "upstreams: {one: {endpoints: ['http://127.0.0.1:1']}}\n"
        + "routes: [{name: one, match: {path: /*}, upstream: one, authentication: none}]\n"
    )
    nowhere = str(file / "below")
    monkeypatch.setenv("XDG_RUNTIME_DIR", nowhere)
    done = extproc(*[word.format(folder=tmp_path) for word in command], str(file))
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        f"the token of the admin interface can't be kept in {nowhere}: not a directory; "
    )


def test_a_token_that_is_another_gateway_s(echo: int, tmp_path: Path) -> None:
    """Of two that start at once one finds the address taken; the other's token stays."""
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""
    admin = free_port()
    processes = []
    try:
        for name in ("one", "two"):
            file, log = tmp_path / f"{name}.yaml", tmp_path / name
            file.write_text(head(free_port(), admin) + text)
            with log.open("wb") as output:
                processes.append(start_run(file, output))
        until(lambda: any(one.poll() is not None for one in processes), "one gives up", 40)
        [ended] = [one for one in processes if one.poll() is not None]
        assert ended.returncode == 1
        until(lambda: ask(admin, "/readyz").status == 200, "the other serves", 40)
        bearer = {"authorization": f"Bearer {token_file(f'127.0.0.1:{admin}').read_text()}"}
        host = {"Host": "elsewhere.example"}
        assert ask(admin, "/status", headers=bearer | host).status == 200
    finally:
        for process in processes:
            end(process)


def test_administration(echo: int) -> None:
    """Health, readiness, status and metrics for all; changes for who has the token."""
    text = f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{echo}"]}}}}
defaults: {{authentication: none}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo}}]
"""
    with gateway(text, workers=2) as running:
        assert running.ask("/x").status == 200
        assert ask(running.admin, "/healthz").status == 200
        status = running.status()
        assert [worker["number"] for worker in status["workers"]] == [0, 1]
        assert status["routes"] == ["any"]
        assert status["upstreams"]["echo"] == {"endpoints": 1, "healthy": 1}
        metrics = ask(running.admin, "/metrics").body.decode()
        assert 'extproc_exchanges_total{decision="allow",route="any"}' in metrics
        assert ask(running.admin, "/nowhere").status == 404
        file = token_file(f"127.0.0.1:{running.admin}")
        bearer = {"authorization": f"Bearer {file.read_text()}"}
        for host in ("localhost", f"localhost:{running.admin}", "127.0.0.1", "[::1]:9900", "[::1]"):
            assert ask(running.admin, "/status", headers={"Host": host}).status == 200, host
        for host in ("evil.example", f"evil.example:{running.admin}", "127.0.0.1.evil.example"):
            reply = ask(running.admin, "/status", headers={"Host": host})
            assert (reply.status, b"echo" in reply.body) == (403, False), host
            assert ask(running.admin, "/status", headers={"Host": host} | bearer).status == 200
        assert file.stat().st_mode & 0o777 == 0o600
        good = {
            "authorization": f"Bearer {file.read_text()}",
            "content-type": "application/json",
        }
        for change, status_code in (
            ({}, 200),
            ({"authorization": "Bearer wrong"}, 401),
            ({"content-type": "text/plain"}, 415),
            ({"Host": "evil.example"}, 403),
            ({"Host": f"evil.example:{running.admin}"}, 403),
            ({"Host": "127.0.0.1:1"}, 403),
            ({"Host": f"127.0.0.1.evil.example:{running.admin}"}, 403),
            ({"Host": f"localhost:{running.admin}"}, 200),
        ):
            reply = ask(running.admin, "/reload", method="POST", headers=good | change, body=b"{}")
            assert reply.status == status_code, change
            assert (b"isn't this gateway's" in reply.body) == (status_code == 401)
        admin = f"127.0.0.1:{running.admin}"
        done = extproc("purge", "--all", "--admin", admin)
        assert (done.returncode, done.stdout) == (0, "purged on 2 workers\n")
        done = extproc("purge", "--all", "--admin", admin, "--token", "wrong")
        assert (done.returncode, done.stderr) == (1, "refused: The token isn't this gateway's.\n")
