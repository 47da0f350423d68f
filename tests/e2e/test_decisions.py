"""Decision records through a real Envoy: all exchanges, and what a log is good for."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import jwt
import pytest

from tests.support.client import ask
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, Gateway, children, gateway, head
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.shop.processes import Shop

PLUGINS = """
import asyncio
import os
from pathlib import Path

from extproc import Plugin, Response

class Raw(Plugin):
    def on_request(self, request):
        return Response(200, {}, b"without a content type")

class Notes(Plugin):
    def on_request(self, request):
        with Path(os.environ["SEEN"]).open("a") as seen:
            seen.write(request.path)

class Waits(Notes):
    async def on_request(self, request):
        super().on_request(request)
        await asyncio.sleep(60)

class Fails(Plugin):
    def on_request(self, request):
        raise RuntimeError("canary-exception")
"""
REST = """
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
{decisions}
authentication:
  shop: {{jwt: {{issuer: "{issuer}", audiences: [shop], discovery: true}}}}
defaults: {{authentication: none}}
consumers: {{beta: {{when: '"x-beta" in request.headers'}}}}
policies:
  p:
    rules:
      - {{name: get, allow: 'request.method == "GET"'}}
      - {{name: bad, deny: 'request.path == "/a/bad"', reason: bad_path, detail: Not this one.}}
    candidate: {{rules: [{{name: beta, allow: 'consumer == "beta"'}}]}}
routes:
  - {{name: a, match: {{path: /a/*}}, upstream: echo, authorization: p}}
  - {{name: token, match: {{path: /token}}, upstream: echo, authentication: [shop]}}
  - {{name: stored, match: {{path: /stored}}, upstream: echo, cache: {{ttl: 1h}}}}
  - {{name: fails, match: {{path: /fails}}, upstream: echo, plugins: [{{use: "own.py:Fails"}}]}}
  - {{name: waits, match: {{path: /waits}}, upstream: echo, plugins: [{{use: "own.py:Waits", deadline: 30s}}]}}
  - {{name: body, match: {{path: /body/*}}, upstream: echo, request: {{body: "@"}}, plugins: [{{use: "own.py:Notes"}}]}}
  - {{name: raw, match: {{path: /raw}}, upstream: echo, plugins: [{{use: "own.py:Raw"}}]}}
  - {{name: many, match: {{path: /many}}, aggregate: {{calls: {{one: {{upstream: echo, path: /one}}}}, response: "{{p: one.path}}"}}}}
"""


def text(shop: Shop, decisions: str = "decisions: {file: records.jsonl}") -> str:
    """Return the gateway file."""
    ports = shop.ports
    issuer = f"http://127.0.0.1:{ports['issuer']}"
    return REST.format(echo=ports["echo"], issuer=issuer, decisions=decisions)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file in which a plugin notes what it saw."""
    return tmp_path_factory.mktemp("seen") / "seen"


@pytest.fixture(scope="module")
def place(shop: Shop, seen: Path) -> Iterator[Gateway]:
    """Run a gateway with two workers."""
    noted = {"SEEN": str(seen)}
    with gateway(text(shop), {"own.py": PLUGINS}, workers=2, environment=noted) as running:
        yield running


def records(place: Gateway) -> list[dict[str, Any]]:
    """Return what was recorded so far."""
    return records_in(place.folder / "records.jsonl")


def recorded(place: Gateway, target: str, **options: Any) -> dict[str, Any]:
    """Make a request; return its record."""
    request_id = ask(place.port, target, **options).headers["x-request-id"]

    def found() -> dict[str, Any] | None:
        return next((r for r in records(place) if r["request_id"] == request_id), None)

    return until(found, f"the record of {target}")


def fields(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """Return some of a record's values."""
    return tuple(record[name] for name in names)


def test_allowed_and_denied(place: Gateway) -> None:
    """Who decided, by which rule, why, and from what."""
    allowed = recorded(place, "/a/x?secret=canary")
    shown = fields(allowed, "route", "path", "decision", "status", "by", "rule", "reason")
    assert shown == ("a", "/a/x", "allow", None, None, "get", None)
    assert allowed["inputs"] == {
        "request.method": "GET",
        "request.path": "/a/x",
        "absent": ["request.headers.x-beta"],
    }
    assert allowed["version"] == place.status()["version"]
    denied = recorded(place, "/a/bad")
    shown = fields(denied, "decision", "status", "by", "rule", "reason")
    assert shown == ("deny", 401, "authorize", "bad", "bad_path")
    assert "canary" not in json.dumps(records(place))


def test_the_candidate_is_recorded_and_never_enforced(place: Gateway) -> None:
    """Both decisions and the rules that made them; differences are counted."""
    other = recorded(place, "/a/x")
    assert (other["decision"], other["candidate"]) == ("allow", {"decision": "deny", "rule": None})
    same = recorded(place, "/a/x", headers={"x-beta": "1"})
    assert same["candidate"] == {"decision": "allow", "rule": "beta"}
    assert same["consumer"] == "beta"
    metrics = ask(place.admin, "/metrics").body.decode()
    assert 'extproc_candidate_differences_total{outcome="allow_to_deny",route="a"}' in metrics
    assert recorded(place, "/stored")["candidate"] is None


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "unauthenticated"),
        ({"authorization": "Bearer canary-token"}, "malformed"),
        ({"authorization": "Basic Y2FuYXJ5"}, "malformed"),
    ],
)
def test_refused_credentials(place: Gateway, headers: dict[str, str], reason: str) -> None:
    """The reason is precise here and not for the client; the credential is nowhere (L2)."""
    record = recorded(place, "/token", headers=headers)
    shown = fields(record, "decision", "status", "by", "reason")
    assert shown == ("deny", 401, "authenticate", reason)
    assert record["principal"]["kind"] == "anonymous"
    assert "canary" not in json.dumps(record)


def test_a_token_names_its_principal(place: Gateway, shop: Shop) -> None:
    """Authenticator, kind, subject and issuer; not the token."""
    token = ask(shop.ports["issuer"], "/token?user=alice&raw=1").body.decode()
    record = recorded(place, "/token", headers={"authorization": f"Bearer {token}"})
    assert record["principal"]["subject"] == "alice"


def test_cached_failed_and_composed(place: Gateway) -> None:
    """L6: every exchange, however it was answered."""
    first, second = recorded(place, "/stored"), recorded(place, "/stored")
    assert second["status"] == 200
    assert {first["cache"], second["cache"]} <= {"uri-miss", "hit"}
    failed = recorded(place, "/fails")
    shown = fields(failed, "decision", "status", "by", "reason")
    assert shown == ("error", 500, "Fails", "plugin_failed")
    assert "canary" not in json.dumps(failed)
    many = recorded(place, "/many")
    assert many["calls"] == [{"part": "one", "upstream": "echo", "outcome": "ok"}]
    assert many["by"] == "aggregate"


def test_what_was_never_judged_is_recorded_by_envoy(place: Gateway) -> None:
    """No route, another method, a malformed request; and nothing is recorded twice."""
    missing = recorded(place, "/none?secret=canary")
    shown = fields(missing, "by", "decision", "status", "path", "host", "method")
    assert shown == ("envoy", "deny", 404, "/none", "127.0.0.1", "GET")
    assert len(recorded(place, f"/none/{'b' * 900}")["path"]) == 512
    assert recorded(place, "/token", method="DELETE")["status"] in {401, 405}
    assert place.ask("/a%2fb").status == 400
    until(lambda: ("envoy", 400) in [fields(r, "by", "status") for r in records(place)], "the 400")
    for target in ("/a/x", "/a/bad", "/fails", "/many", "/stored", "/raw"):
        request_id = recorded(place, target)["request_id"]
        ask(place.port, "/none")  # its record comes after anything Envoy has to say of the other
        until(lambda: records(place)[-1]["path"] == "/none", "Envoy's next record")
        mine = [r["by"] for r in records(place) if r["request_id"] == request_id]
        assert len(mine) == 1, (target, mine)
    assert "canary" not in (place.folder / "records.jsonl").read_text()


POST = "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKED = POST + "transfer-encoding: chunked\r\n\r\n"
UNDECIDED = {
    "/body/aborted": (POST + "content-length: 100\r\n\r\n{{", True, ("deny", None)),
    "/body/framing": (CHUNKED + '5\r\n{{"a":\r\nzz\r\n', False, ("deny", 400)),
    "/body/large": (
        CHUNKED + "200000\r\n" + "x" * 0x200000 + "\r\n0\r\n\r\n",
        False,
        ("deny", 413),
    ),
    "/waits": ("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", True, ("deny", None)),
}


def test_an_exchange_has_one_record_however_it_ends(place: Gateway, seen: Path) -> None:
    """Also where the service had seen it, and Envoy or the client ended it before the decision."""
    for path, (request, aborts, _) in UNDECIDED.items():
        with socket.create_connection(("127.0.0.1", place.port), 10) as connection:
            connection.settimeout(10)
            with suppress(OSError):  # an answer may come before all is sent
                connection.sendall(request.format(path).encode())
            if aborts:
                until(lambda path=path: path in seen.read_text(), "it is seen")  # type: ignore[misc]
            else:
                with suppress(OSError):
                    connection.recv(65_536)
        until(lambda path=path: of_path(place, path), f"the record of {path}")  # type: ignore[misc]
    for number in range(8):  # of each thread and worker, so that nothing is still on its way
        recorded(place, f"/nowhere/{number}")
        recorded(place, f"/a/{number}")
    for path, (_, _, said) in UNDECIDED.items():
        found = [(r["decision"], r["status"]) for r in of_path(place, path)]
        assert found == [said], path


def of_path(place: Gateway, path: str) -> list[dict[str, Any]]:
    """Return the records of a path."""
    return [record for record in records(place) if record["path"] == path]


def test_records_of_envoy_are_counted(place: Gateway) -> None:
    """Beside those of the workers: as many as there are lines."""
    assert recorded(place, "/none")["by"] == "envoy"

    def counted() -> bool:
        text = ask(place.admin, "/metrics").body.decode()
        name = 'extproc_decision_records_total{outcome="written"} '
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        return float(line.removeprefix(name)) == len(records(place))

    until(counted, "every record is counted")


def test_only_workers_and_their_parent_write_the_file(place: Gateway) -> None:
    """Envoy writes its buffer in pieces, between which another's line would land."""
    assert recorded(place, "/none")["by"] == "envoy"
    log = place.folder / "records.jsonl"

    def writes(pid: int) -> bool:
        return log in [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()]

    parent = place.process.pid
    writers = {pid for pid in (parent, *children(parent)) if writes(pid)}
    assert writers == {parent, *place.workers()}


def test_no_exchange_is_missing(place: Gateway) -> None:
    """Each worker's sequence has no gap, also with many at once."""
    for _ in range(200):
        ask(place.port, "/a/x")
    mine = "/a/x"
    until(lambda: sum(r["path"] == mine for r in records(place)) >= 200, "all are written")
    by_worker: dict[str, list[int]] = {}
    for record in (r for r in records(place) if r["by"] != "envoy"):
        by_worker.setdefault(record["worker"], []).append(record["seq"])
    for numbers in by_worker.values():
        assert numbers == list(range(1, len(numbers) + 1))


def replayed(
    log: Path, against: Path, *options: str, stdin: IO[bytes] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `extproc replay`."""
    command = [sys.executable, "-m", "extproc", "replay", str(log), "--against", str(against)]
    return subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        stdin=stdin,
    )


def test_replay_says_what_a_change_would_change(place: Gateway) -> None:
    """Against the same file nothing, against another the changes by rule, with an exit status."""
    for target in ("/a/x", "/a/bad", "/a/y"):
        recorded(place, target)
    log, same = place.folder / "records.jsonl", place.folder / "gateway.yaml"
    done = replayed(log, same)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 change, 0 unknown" in done.stdout
    said = done.stdout
    with subprocess.Popen(["cat", str(log)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # As in `extproc replay <(zcat records.jsonl.1.gz) --against ...`.
        assert replayed(Path("/dev/stdin"), same, stdin=process.stdout).stdout == said

    stricter = place.folder / "stricter.yaml"
    stricter.write_text(same.read_text().replace('"/a/bad"', '"/a/y"'))
    done = replayed(log, stricter, "--json")
    assert done.returncode == 1
    found = {
        (c["was"]["rule"], c["would"]["decision"], c["would"]["rule"])
        for c in json.loads(done.stdout)["changes"]
    }
    assert found == {("get", "deny", "bad"), ("bad", "allow", "get")}
    assert "a: allow by get -> deny by bad" in replayed(log, stricter).stdout

    other = place.folder / "other.yaml"
    other.write_text(
        same.read_text().replace("'request.method == \"GET\"'", "'request.host != \"x\"'")
    )
    done = replayed(log, other)
    assert done.returncode == 3
    assert "unknown: request.host was not recorded" in done.stdout


def test_replay_refuses_what_it_can_t_read(place: Gateway, tmp_path: Path) -> None:
    """A message, not a traceback; lines of a log are counted, and no record is no success."""
    gateway_file = place.folder / "gateway.yaml"
    missing = replayed(tmp_path / "none", gateway_file)
    assert missing.returncode == 2
    assert "can't be read: No such file or directory" in missing.stderr
    folder = replayed(tmp_path, gateway_file)
    assert (folder.returncode, "Traceback" in folder.stderr) == (2, False)
    (tmp_path / "mixed").write_text('serving on 127.0.0.1\n{"event": "x"}\n')
    mixed = replayed(tmp_path / "mixed", gateway_file)
    assert mixed.returncode == 2
    assert "no decision record among 2 lines" in mixed.stderr
    recorded(place, "/a/z")
    log = (place.folder / "records.jsonl").read_text()
    (tmp_path / "mixed").write_text(f'serving on 127.0.0.1\n{log}{{"event": "x"}}\n')
    mixed = replayed(tmp_path / "mixed", gateway_file)
    assert mixed.returncode == 0
    assert "2 lines are no decision records" in mixed.stdout


def test_records_go_to_standard_output_by_default(shop: Shop) -> None:
    """One line each, beside the log on standard error."""
    with gateway(text(shop, ""), {"own.py": PLUGINS}) as running:
        running.ask("/a/x")
        until(lambda: '"decision":"allow"' in running.said(), "the record")
        running.ask("/none")
        until(lambda: '"by":"envoy"' in running.said(), "Envoy's")
        whole = running.said().rpartition("\n")[0]
    assert all("time" in json.loads(line) for line in whole.splitlines())


def test_a_token_in_the_query_is_not_recorded(echo: int) -> None:
    """L2: though a policy reads it, and though the upstream gets it."""
    secret = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
    rest = f"""
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}'], forward_credentials: true}}}}
decisions: {{file: records.jsonl}}
authentication: {{shop: {{jwt: {{issuer: "https://id", audiences: [a], secret: "{secret}", query: pass}}}}}}
policies:
  p: {{rules: [{{name: r, allow: 'request.query.pass != "" && request.headers.referer != "" && request.query.x == "1"'}}]}}
routes: [{{name: a, match: {{path: /a}}, upstream: echo, authentication: [shop], authorization: p}}]
"""
    now = int(time.time())
    claims = {"iss": "https://id", "aud": "a", "sub": "alice", "iat": now, "exp": now + 60}
    token = jwt.encode(claims, secret, "HS256")
    with gateway(rest) as running:
        headers = {"Referer": f"http://shop/?pass={token}"}
        seen = recorded(running, f"/a?x=1&pass={token}", headers=headers)
    assert seen["decision"] == "allow"
    assert seen["inputs"] == {"request.query.x": "1"}
    assert token not in json.dumps(seen)


def test_no_folder_for_records_costs_records_alone(shop: Shop) -> None:
    """As when a release goes with its folder: who takes a worker's place serves, and then writes."""
    records = "decisions: {file: logs/records.jsonl}"
    with gateway(text(shop, records), {"own.py": PLUGINS, "logs/records.jsonl": ""}) as running:
        shutil.rmtree(running.folder / "logs")
        [worker] = running.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: running.workers() not in ([], [worker]), "it is replaced", 20)
        until(lambda: running.ask("/a/x").status == 200, "it serves")
        (running.folder / "logs").mkdir()
        file = running.folder / "logs" / "records.jsonl"
        until(lambda: running.ask("/a/x").status == 200 and file.exists(), "it is opened")
        until(lambda: "allow" in [one["decision"] for one in records_in(file)], "the record")


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_file_that_can_not_be_opened_at_the_start(shop: Shop, command: str) -> None:
    """Nothing starts, and it is named."""
    with short_folder() as folder:
        file = folder / "gateway.yaml"
        (folder / "own.py").write_text(PLUGINS)
        rest = text(shop, "decisions: {file: nowhere/records.jsonl}")
        file.write_text(head(free_port(), free_port()) + rest)
        listen = ["--listen", f"unix:{folder}/s"] if command == "serve" else []
        called = [sys.executable, "-m", "extproc", command, str(file), *listen]
        done = subprocess.run(
            called, check=False, capture_output=True, text=True, timeout=40, cwd=ROOT
        )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "nowhere/records.jsonl" in done.stderr
    assert "worker" not in done.stderr
