"""Credentials of a file of policy tests: tokens signed and keys made for it, filled into requests.

A token's claims are the file's, over `iat` now and `exp` in five minutes; null takes a claim out,
and `exp`, `nbf` and `iat` may be written as a distance from now (`+5m`, `-1h`). Names that begin
with `$` are no claims: `$key: stranger` signs with a key that nobody trusts, `$alg: none` doesn't
sign, and `$header` adds to the token's header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.authentication.signing import unsigned
from extproc.config.units import duration
from extproc.offline.trust import TestKey

if TYPE_CHECKING:
    from extproc.config.schema.policy_tests import PolicyTests
    from extproc.config.source import Key
    from extproc.offline.trust import TestIssuers

_LIFETIME = 300
_MOMENTS = ("exp", "nbf", "iat")
_DISTANCE = re.compile(r"([+-])(.+)\Z")
_WHOLE = re.compile(r"^[^\s:]+:[ \t]*(?:[A-Za-z]+ )?\{([\w-]+)\}[ \t]*$", re.MULTILINE)
_ORDERS = frozenset({"$key", "$alg", "$header"})


class NotACredential(ValueError):
    """A token or key of a test can't be made; `key` says which, the message why."""

    def __init__(self, key: Key, problem: str, expected: str) -> None:
        super().__init__(problem)
        self.key = key
        self.problem = problem
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Credentials:
    """What may be filled into the requests of a file.

    Attributes:
        texts: by name.
        keys: the API keys among them.
    """

    texts: Mapping[str, str]
    keys: tuple[TestKey, ...]

    @classmethod
    def made(cls, tests: PolicyTests, issuers: TestIssuers, now: float) -> Credentials:
        """Make everything that a file declares.

        Raises:
            NotACredential: something can't be made.
        """
        keys = {
            name: TestKey(key.authenticator, key.id, key.consumer, tuple(key.scopes))
            for name, key in tests.keys.items()
        }
        tokens = {
            name: token(("tokens", name), claims, issuers, now)
            for name, claims in tests.tokens.items()
        }
        texts = tokens | {name: key.text for name, key in keys.items()}
        return cls(texts, tuple(keys.values()))

    def undeclared(self, request: str) -> str:
        """Return a name that is the whole of a header's value, with or without a scheme before it.

        A test that expects denial would pass for a name that is misspelt. Empty where all are
        declared; braces elsewhere are bytes of the request.
        """
        head = request.replace("\r\n", "\n").partition("\n\n")[0]
        return next((name for name in _WHOLE.findall(head) if name not in self.texts), "")

    def filled(self, request: str) -> bytes:
        """Fill declared names in; every other brace stays as it is."""
        if not self.texts:
            return request.encode("latin-1")
        names = "|".join(map(re.escape, self.texts))
        filled = re.sub(rf"\{{({names})\}}", lambda found: self.texts[found[1]], request)
        return filled.encode("latin-1")


def token(
    key: tuple[str, ...], declared: Mapping[str, object], issuers: TestIssuers, now: float
) -> str:
    """Sign a token as a test declares it.

    Raises:
        NotACredential: it can't be made.
    """
    unknown = next((n for n in declared if n.startswith("$") and n not in _ORDERS), None)
    if unknown is not None:
        expected = f"expected {', '.join(sorted(_ORDERS))} or a claim"
        raise NotACredential((*key, unknown), "unknown key", expected)
    claims = claimed(key, declared, now)
    header = declared.get("$header", {})
    if not isinstance(header, dict):
        raise NotACredential((*key, "$header"), "is no mapping", "expected names and values")
    if declared.get("$alg") == "none":
        return unsigned(claims, header)
    _only(key, declared, "$alg", "none")
    _only(key, declared, "$key", "stranger")
    whose = issuers.impostor_of if "$key" in declared else issuers.of
    return whose(claims.get("iss")).sign(claims, header)


def _only(key: tuple[str, ...], declared: Mapping[str, object], name: str, value: str) -> None:
    if declared.get(name, value) != value:
        raise NotACredential((*key, name), f"is {declared[name]!r}", f"expected {value}")


def claimed(key: tuple[str, ...], declared: Mapping[str, object], now: float) -> dict[str, object]:
    """Return the claims of a token.

    Raises:
        NotACredential: a distance from now can't be read.
    """
    start = int(now)
    claims: dict[str, object] = {"iat": start, "exp": start + _LIFETIME}
    claims |= {name: value for name, value in declared.items() if not name.startswith("$")}
    for name in _MOMENTS:
        value = claims.get(name)
        if isinstance(value, str) and (found := _DISTANCE.match(value)):
            claims[name] = start + _distance((*key, name), found)
    return {name: value for name, value in claims.items() if value is not None}


def _distance(key: tuple[str, ...], found: re.Match[str]) -> int:
    try:
        seconds = round(duration(found[2]))
    except ValueError as error:
        expected = "expected a distance from now such as +5m or -1h"
        raise NotACredential(key, f"is {found[0]!r}", expected) from error
    return seconds if found[1] == "+" else -seconds
