"""Revocation through a real Envoy: every worker, cached answers, new workers, a restart."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from extproc.authentication import api_keys
from tests.support.client import ask
from tests.support.places import free_port
from tests.support.processes import ROOT, Gateway, end, gateway, service, start_run
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.shop.processes import Shop

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
KEY_SECRET, SALT = "s" * 43, "ab" * 16
REST = """
decisions: {{file: records.jsonl}}
revocations: {{file: revoked.jsonl}}
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
authentication:
  shop: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}", leeway: 1s}}}}
  keys: {{api_key: {{file: keys.jsonl}}}}
routes:
  - {{name: plain, match: {{path: /plain}}, upstream: echo, authentication: [shop, keys]}}
  - {{name: cached, match: {{path: /cached}}, upstream: echo, authentication: [shop], cache: {{ttl: 60s}}}}
"""


def bearer(**claims: Any) -> dict[str, str]:
    """Return the header of a token that was issued before anything here was revoked."""
    now = int(time.time())
    usual = {"iss": "https://id.example", "aud": "shop", "iat": now - 120, "exp": now + 300}
    return {"authorization": "Bearer " + pyjwt.encode(usual | claims, SECRET, "HS256")}


@pytest.fixture(scope="module")
def place(shop: Shop) -> Iterator[Gateway]:
    """Run a gateway of two workers."""
    line = f'{{"id": "k1", "hash": "{api_keys.digest(KEY_SECRET, SALT)}"}}\n'
    text = REST.format(echo=shop.ports["echo"], secret=SECRET)
    with gateway(text, {"keys.jsonl": line}, workers=2) as running:
        until(lambda: len(running.workers()) == 2, "both workers serve")
        yield running


def revoke(admin: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "extproc", "revoke", "--admin", f"127.0.0.1:{admin}"]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, cwd=ROOT
    )


def statuses(place: Gateway, path: str, headers: dict[str, str]) -> set[int]:
    """Return the statuses of enough requests that each worker has had some."""
    return {place.ask(path, headers=headers).status for _ in range(24)}


def test_J34_a_token_is_revoked_on_every_worker(place: Gateway) -> None:
    """When the command has ended none accepts it; others of the subject stay good."""
    one, other = bearer(sub="alice", jti="one"), bearer(sub="alice", jti="other")
    assert statuses(place, "/plain", one) == {200}
    done = revoke(place.admin, "--jti", "one")
    assert (done.returncode, done.stderr) == (0, "")
    assert statuses(place, "/plain", one) == {401}
    assert statuses(place, "/plain", other) == {200}
    records = place.folder / "records.jsonl"
    until(lambda: '"reason":"revoked"' in records.read_text(), "the refusal is recorded")


def test_J34_a_cached_answer_is_not_given(place: Gateway) -> None:
    """Who may is judged before the lookup, on every hit."""
    mine = bearer(sub="carol", jti="cached")
    assert statuses(place, "/cached", mine) == {200}
    assert revoke(place.admin, "--subject", "carol").returncode == 0
    assert statuses(place, "/cached", mine) == {401}

    def later() -> bool:
        later = bearer(sub="carol", iat=time.time())
        return place.ask("/cached", headers=later).status == 200

    until(later, "a token is surely a new one")


def test_J34_an_api_key(place: Gateway) -> None:
    """By its id, for one authenticator; one that isn't there is a slip, and nothing is revoked."""
    header = {"x-api-key": api_keys.written("k1", KEY_SECRET)}
    assert statuses(place, "/plain", header) == {200}
    slip = revoke(place.admin, "--subject", "k1", "--authenticator", "kesy")
    assert slip.returncode != 0
    assert "'kesy' isn't one of this gateway's, expected one of keys, shop" in slip.stderr
    assert revoke(place.admin, "--subject", "k1", "--authenticator", "shop").returncode == 0
    assert statuses(place, "/plain", header) == {200}
    assert revoke(place.admin, "--subject", "k1", "--authenticator", "keys").returncode == 0
    assert statuses(place, "/plain", header) == {401}


def test_J34_a_file_that_was_rotated(place: Gateway) -> None:
    """What comes next is in force, and what was before is for workers to come."""
    file = place.folder / "revoked.jsonl"
    before = file.read_bytes()
    file.rename(place.folder / "revoked.jsonl.1")
    gone = bearer(sub="fred", jti="rotated")
    assert revoke(place.admin, "--jti", "rotated").returncode == 0
    assert statuses(place, "/plain", gone) == {401}
    assert file.read_bytes().startswith(before)


def test_J34_a_new_worker_knows(place: Gateway) -> None:
    """A process that takes another's place refuses what was revoked before."""
    lost = bearer(sub="dora", jti="lost")
    assert revoke(place.admin, "--jti", "lost").returncode == 0
    before = place.workers()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(place.workers()) - set(before)) == 1, "another worker serves")
    assert statuses(place, "/plain", lost) == {401}


def test_a_worker_that_can_not_take_it_in_is_replaced(place: Gateway) -> None:
    """One that can open no file any more: when the command has ended, none accepts the token."""
    until(lambda: len(place.workers()) == 2, "both workers serve")
    ill, restarts = place.workers()[0], _restarts(place)
    headers = bearer(sub="eve", jti="unread")
    assert statuses(place, "/plain", headers) == {200}
    _, most = resource.prlimit(ill, resource.RLIMIT_NOFILE)
    resource.prlimit(ill, resource.RLIMIT_NOFILE, (4, most))
    done = revoke(place.admin, "--jti", "unread")
    assert done.returncode == 0, done.stderr
    assert statuses(place, "/plain", headers) == {401}
    until(lambda: _restarts(place) == restarts + 1, "its end is seen")
    until(lambda: len(place.workers()) == 2, "it is replaced")
    assert ill not in place.workers()
    assert _restarts(place) == restarts + 1
    assert "can't take in revocations" in place.said()
    assert statuses(place, "/plain", headers) == {401}


def _restarts(place: Gateway) -> int:
    return sum(worker["restarts"] for worker in place.status()["workers"])


def test_what_is_not_understood(place: Gateway) -> None:
    """Said on standard error, with the reason; nothing is revoked."""
    count = place.status()["revocations"]
    assert revoke(place.admin).returncode == 2
    assert revoke(place.admin, "--jti", "a", "--subject", "b").returncode == 2
    ahead = revoke(place.admin, "--before", "2199-01-01")
    assert (ahead.returncode, "lies ahead" in ahead.stderr) == (2, True)
    nonsense = revoke(place.admin, "--jti", "a", "--for", "long")
    assert (nonsense.returncode, "Traceback" in nonsense.stderr) == (2, False)
    assert "no token for" in revoke(free_port(), "--jti", "a").stderr
    wrong = revoke(place.admin, "--jti", "a", "--token", "wrong")
    assert (wrong.returncode, "isn't this gateway's" in wrong.stderr) == (1, True)
    body = {"content-type": "application/json", "host": f"127.0.0.1:{place.admin}"}
    assert ask(place.admin, "/revoke", method="POST", headers=body, body=b"{}").status == 401
    assert place.status()["revocations"] == count


def test_J34_it_outlives_a_restart(shop: Shop, tmp_path: Path) -> None:
    """Where the gateway file names a file."""
    lost, kept = bearer(sub="eve", jti="gone"), bearer(sub="eve", jti="stays")
    text = REST.format(echo=shop.ports["echo"], secret=SECRET)
    with gateway(text, {"keys.jsonl": ""}) as running:
        assert running.ask("/plain", headers=lost).status == 200
        assert revoke(running.admin, "--jti", "gone").returncode == 0
        assert end(running.process) == 0
        with (tmp_path / "log").open("wb") as output:
            again = start_run(running.folder / "gateway.yaml", output)
        try:
            until(lambda: ask(running.admin, "/readyz").status == 200, "it serves again", 40)
            assert running.ask("/plain", headers=lost).status == 401
            assert running.ask("/plain", headers=kept).status == 200
        finally:
            end(again)


def test_the_service_alone_revokes_too(shop: Shop, tmp_path: Path) -> None:
    """`extproc serve` has the same address and command."""
    admin = free_port()
    file = tmp_path / "gateway.yaml"
    head = f"version: 1\nlistener: {{address: '127.0.0.1:1'}}\nadmin: {{address: '127.0.0.1:{admin}'}}\n"
    file.write_text(head + REST.format(echo=shop.ports["echo"], secret=SECRET))
    (tmp_path / "keys.jsonl").write_text("")
    with service(file, f"127.0.0.1:{free_port()}"):
        assert revoke(admin, "--before", "now", "--for", "1d").returncode == 0
        assert ask(admin, "/status").json["revocations"] == 1
