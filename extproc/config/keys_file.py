"""The file of API keys: YAML with a list under `keys:`, or JSON lines (`.jsonl`) for many."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from extproc.authentication.api_keys import BadEntry, Entry, check, digest, written
from extproc.config import source
from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.source import filler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_KEYS = frozenset({"id", "hash", "consumer", "scopes", "not_before", "expires"})
_EXPECTED = "expected id, hash, consumer, scopes, not_before, expires"
_MOST_TROUBLES = 20


def read(path: Path, name: str) -> list[Entry]:
    """Read every entry.

    Args:
        path: the file.
        name: what errors call it.

    Raises:
        ConfigError: with each entry that can't be used, by line.
    """
    entries, troubles = [], []
    seen: dict[str, int] = {}
    for at, value in _lines(path, name) if path.suffix == ".jsonl" else _listed(path, name):
        try:
            entry = _entry(value, seen)
        except BadEntry as error:
            troubles.append(Trouble(at, "keys", str(error), _EXPECTED))
            if len(troubles) >= _MOST_TROUBLES:
                break
            continue
        seen[entry.id] = at.line
        entries.append(entry)
    if troubles:
        raise ConfigError(troubles)
    return entries


def _lines(path: Path, name: str) -> Iterator[tuple[Position, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield Position(name, number, 1), orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    trouble = Trouble(Position(name, number, 1), "keys", f"isn't JSON: {error}")
                    raise ConfigError([trouble]) from error


def _listed(path: Path, name: str) -> Iterator[tuple[Position, Any]]:
    document = source.read(path, name, filler(path.parent, {}))
    data = document.data
    if not isinstance(data, dict) or set(data) != {"keys"} or not isinstance(data["keys"], list):
        trouble = Trouble(Position(name, 1, 1), "", "isn't a list under `keys:`", "expected one")
        raise ConfigError([trouble])
    for place, value in enumerate(data["keys"]):
        yield document.values.get(("keys", place), Position(name, 1, 1)), value


def _entry(value: Any, seen: Mapping[str, int]) -> Entry:
    if not isinstance(value, dict):
        raise BadEntry("isn't a map")
    unknown = set(value) - _KEYS
    if unknown:
        raise BadEntry(f"has the unknown key {min(map(str, unknown))}")
    for key in ("id", "hash", "consumer"):
        if not isinstance(value.get(key, ""), str):
            raise BadEntry(f"`{key}` isn't text")
    if value.get("id") in seen:
        raise BadEntry(f"has the id {value['id']}, as line {seen[value['id']]} has")
    scopes = value.get("scopes", [])
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise BadEntry("`scopes` isn't a list of texts")
    return check(
        Entry(
            value.get("id", ""),
            value.get("hash", ""),
            value.get("consumer", ""),
            tuple(scopes),
            _moment(value, "not_before"),
            _moment(value, "expires"),
        )
    )


def _moment(value: dict[str, Any], key: str) -> float | None:
    """Read a moment: ISO 8601 with a zone, or a date in UTC."""
    text = value.get(key)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise BadEntry(f"`{key}` isn't a moment such as 2027-01-31T00:00:00Z") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def made(
    identifier: str, secret: str, salt: str, fields: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Make a key of a secret, and its entry.

    Args:
        identifier: of the key.
        secret: random, base64url.
        salt: random, hexadecimal.
        fields: the entry's others.

    Raises:
        BadEntry: the entry could not be read back.
    """
    entry = {"id": identifier, "hash": digest(secret, salt)} | fields
    _entry(entry, {})
    try:
        orjson.dumps(entry)
    except orjson.JSONEncodeError:  # what the shell gave isn't, or is half of a surrogate pair
        raise BadEntry("holds a text that isn't UTF-8") from None
    return written(identifier, secret), entry
