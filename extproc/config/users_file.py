"""The file of users for basic authentication: lines of `user:hash`, as `htpasswd -B` makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.authentication.basic import BadHash, check
from extproc.config.errors import ConfigError, Position, Trouble

if TYPE_CHECKING:
    from pathlib import Path

_EXPECTED = "expected user:hash, with a hash by `htpasswd -B` (bcrypt) or argon2"
_MOST_TROUBLES = 20
_LONGEST_LINE = 1024


def read(path: Path, name: str) -> dict[str, str]:
    """Read every user.

    Args:
        path: the file.
        name: what errors call it.

    Returns:
        The hash of each.

    Raises:
        ConfigError: with each line that can't be used.
    """
    users: dict[str, str] = {}
    troubles: list[Trouble] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError([Trouble(Position(name, 1, 1), "", "isn't UTF-8")]) from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            user, kept = _user(line, users)
        except BadHash as error:
            troubles.append(Trouble(Position(name, number, 1), "", str(error), _EXPECTED))
            continue
        users[user] = kept
    if troubles:
        raise ConfigError(troubles[:_MOST_TROUBLES])
    return users


def _user(line: str, users: dict[str, str]) -> tuple[str, str]:
    """Read one line; what is wrong with it never quotes the hash."""
    user, colon, kept = line.strip().partition(":")
    if not colon or not user or len(line) > _LONGEST_LINE:
        raise BadHash("isn't user:hash")
    if user in users:
        raise BadHash(f"has the user {user} twice")
    return user, check(kept)
