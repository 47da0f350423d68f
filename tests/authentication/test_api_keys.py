"""API keys: found by id, compared by hash, in their time; files that can't be used are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.authentication import api_keys
from extproc.authentication.api_keys import ApiKeys, BadEntry, Entry
from extproc.authentication.plugin import Authenticate
from extproc.authentication.tokens import Refused
from extproc.config import keys_file
from extproc.config.errors import ConfigError
from extproc.core.values import Request
from extproc.testing import ManualClock, Trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from extproc.core.values import Response

SECRET = "s" * 43
SALT = "ab" * 16
NOW = ManualClock().now()


def entry(identifier: str = "one", **fields: Any) -> Entry:
    """Return an entry whose secret is `SECRET`."""
    return Entry(identifier, api_keys.digest(SECRET, SALT), **fields)


def key(identifier: str = "one", secret: str = SECRET) -> str:
    """Return a key as a client sends it."""
    return api_keys.written(identifier, secret)


async def answered(presented: str | None, *entries: Entry, anonymous: bool = False) -> Any:
    """Return the answer to a request, and its trial."""
    scheme = ApiKeys("keys", "x-api-key", entries)
    trial = Trial(Authenticate(schemes=(scheme,), anonymous=anonymous))
    headers = {} if presented is None else {"x-api-key": presented}
    return await trial.request(headers=headers)


async def test_a_key_is_accepted() -> None:
    """With its id as subject, its scopes, and its consumer."""
    scheme = ApiKeys("keys", "x-api-key", [entry(scopes=("read",), consumer="partner")])
    principal = scheme_verify(scheme, key())
    assert (principal.kind, principal.authenticator, principal.subject) == (
        "api_key",
        "keys",
        "one",
    )
    assert (principal.scopes, principal.consumer) == (("read",), "partner")
    assert (await answered(key(), entry())).status == 200


def scheme_verify(scheme: ApiKeys, credential: str) -> Any:
    """Verify with a clock that stands."""

    class Services:
        clock = ManualClock()

    scheme.start(Services())  # type: ignore[arg-type]
    return scheme.verify(credential, Request())


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (key("two"), "key_unknown"),
        (key(secret="t" * 43), "key_wrong"),
        (key("early"), "key_not_yet"),
        (key("late"), "key_expired"),
        ("", "malformed"),
        ("one." + SECRET, "malformed"),
        ("ek_one", "malformed"),
        ("ek_one.", "malformed"),
        ("ek_.." + SECRET, "malformed"),
        ("ek_one." + SECRET + "é", "malformed"),
        ("ek_" + "x" * 65 + "." + SECRET, "malformed"),
        ("ek_one." + "s" * 200, "malformed"),
        (key() + " ", "malformed"),
        (f"{key()}, {key()}", "malformed"),
    ],
)
async def test_what_is_refused(presented: str, reason: str) -> None:
    """L3, L4: the same answer for each; the reason is in the record alone."""
    entries = (entry(), entry("early", not_before=NOW + 1), entry("late", expires=NOW))
    scheme = ApiKeys("keys", "x-api-key", entries)
    with pytest.raises(Refused) as caught:
        scheme_verify(scheme, presented)
    assert caught.value.reason == reason
    answer = await answered(presented, *entries)
    assert shown(answer) == shown(await answered(key("nobody"), *entries))
    assert answer.headers["www-authenticate"] == 'ApiKey realm="gateway"'


def shown(answer: Response) -> tuple[Any, ...]:
    """Return what a client sees."""
    return answer.status, list(answer.headers.items()), answer.body


async def test_an_invalid_key_is_never_anonymous() -> None:
    """F13: optional means that none may be presented, not that any may."""
    assert (await answered(None, entry(), anonymous=True)).status == 200
    assert (await answered("x", entry(), anonymous=True)).status == 401
    assert (await answered(None, entry())).status == 401


async def test_rotation_overlaps() -> None:
    """Two keys of one consumer are good at once; the old one ends at its time."""
    old, new = entry("old", expires=NOW + 10), entry("new")
    scheme = ApiKeys("keys", "x-api-key", [old, new])
    assert scheme_verify(scheme, key("old")).subject == "old"
    assert scheme_verify(scheme, key("new")).subject == "new"


@given(st.text(max_size=120))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    """And never accepted by accident."""
    with pytest.raises(Refused):
        scheme_verify(ApiKeys("keys", "x-api-key", [entry()]), text)


def test_two_entries_of_one_id() -> None:
    """Neither is right."""
    with pytest.raises(BadEntry):
        ApiKeys("keys", "x-api-key", [entry(), entry()])


GOOD = {"id": "one", "hash": api_keys.digest(SECRET, SALT), "consumer": "c", "scopes": ["a"]}


def as_lines(path: Path, *values: Any) -> Path:
    """Write JSON lines."""
    file = path / "keys.jsonl"
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


def as_yaml(path: Path, *values: Any) -> Path:
    """Write YAML."""
    file = path / "keys.yaml"
    file.write_text("keys:\n" + "".join(f"  - {json.dumps(value)}\n" for value in values))
    return file


@pytest.mark.parametrize("write", [as_lines, as_yaml])
def test_both_forms_of_the_file(tmp_path: Path, write: Callable[..., Path]) -> None:
    """The same entries."""
    other = GOOD | {"id": "two", "not_before": "2026-01-01", "expires": "2027-01-01T00:00:00Z"}
    first, second = keys_file.read(write(tmp_path, GOOD, other), "keys")
    assert (first.id, first.consumer, first.scopes) == ("one", "c", ("a",))
    assert (second.not_before, second.expires) == (1767225600.0, 1798761600.0)


@pytest.mark.parametrize("write", [as_lines, as_yaml])
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "a b"}, "`id`"),
        ({"id": 5}, "`id`"),
        ({"hash": "sha256:zz:zz"}, "`hash`"),
        ({"hash": SECRET}, "`hash`"),
        ({"scopes": "read"}, "`scopes`"),
        ({"scopes": [1]}, "`scopes`"),
        ({"expires": "soon"}, "`expires`"),
        ({"expire": "2027-01-01"}, "unknown key expire"),
        ({"id": "first"}, "has the id first, as line"),
        ({"id": ["first"]}, "`id` isn't text"),
        ({"id": {}}, "`id` isn't text"),
    ],
)
def test_an_entry_that_can_t_be_used(
    tmp_path: Path, write: Callable[..., Path], changes: dict[str, Any], problem: str
) -> None:
    """Its line, what is wrong, what was expected."""
    with pytest.raises(ConfigError) as caught:
        keys_file.read(write(tmp_path, GOOD | {"id": "first"}, GOOD | changes), "keys")
    (trouble,) = caught.value.troubles
    assert problem in trouble.problem
    assert trouble.at.line == (2 if write is as_lines else 3)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "keys: 5", "other: []", "keys: [1]"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    """YAML without the list; and a line that isn't JSON."""
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ConfigError):
        keys_file.read(tmp_path / "keys.yaml", "keys")
    (tmp_path / "keys.jsonl").write_text('{"id"')
    with pytest.raises(ConfigError):
        keys_file.read(tmp_path / "keys.jsonl", "keys")


def test_key_new_makes_what_the_file_takes(tmp_path: Path) -> None:
    """The key is shown once; the entry holds a hash of it, and is accepted."""
    command = [sys.executable, "-m", "extproc", "key", "new", "--consumer", "c", "--scope", "a"]
    done = subprocess.run([*command, "--expires", "90d", "--json"], check=True, capture_output=True)
    made = json.loads(done.stdout)
    assert made["key"].split(".")[1] not in json.dumps(made["entry"])
    (read,) = keys_file.read(as_lines(tmp_path, made["entry"]), "keys")
    scheme = ApiKeys("keys", "x-api-key", [read])
    assert scheme_verify(scheme, made["key"]).scopes == ("a",)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "shown once" in text
    wrong = subprocess.run([*command, "--expires", "soon"], check=False, capture_output=True)
    assert wrong.returncode == 2
    wrong = subprocess.run([*command, "--scope", b"\xff"], check=False, capture_output=True)
    assert wrong.returncode == 2
    assert b"isn't UTF-8" in wrong.stderr


def test_many_keys_load_quickly(tmp_path: Path) -> None:
    """A hundred thousand, as JSON lines; how quickly is the benchmark's."""
    file = tmp_path / "keys.jsonl"
    hashed = api_keys.digest(SECRET, SALT)
    file.write_text("".join(f'{{"id":"k{n}","hash":"{hashed}"}}\n' for n in range(100_000)))
    scheme = ApiKeys("keys", "x-api-key", keys_file.read(file, "keys"))
    assert len(scheme) == 100_000
    assert scheme_verify(scheme, key("k99999")).subject == "k99999"
