"""Whose tokens and keys a gate accepts in place of the real ones, which aren't here.

`explain` looks at real tokens without the issuer's keys: their claims are judged and the trace says
that the signature wasn't checked. Policy tests make their own keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from extproc.authentication.api_keys import ApiKeys, Entry, digest, written
from extproc.authentication.jwks import KeySource
from extproc.authentication.keys import KeySet
from extproc.authentication.plugin import Authenticate
from extproc.authentication.signing import ALGORITHMS, SigningKey
from extproc.offline.any_key import AnyKey, AnyKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from extproc.config.build import Assembly

_NOT_CHECKED = "signature not checked: the keys of {} are not on disk"


def without_signatures(assembly: Assembly, note: Callable[[str], None]) -> None:
    """Judge tokens by their claims alone where the issuer's keys would have to be fetched.

    Args:
        assembly: its authenticators are changed; it must not serve traffic.
        note: told whenever a signature wasn't checked.
    """
    for name, authenticator in assembly.authenticators.items():
        model = assembly.loaded.gateway.authentication[name].jwt
        if model is None or not (model.discovery or model.jwks_uri):
            continue
        issuer = authenticator.rules.issuer
        said = partial(note, _NOT_CHECKED.format(issuer))
        key = AnyKey("", frozenset(ALGORITHMS), None, said)
        authenticator.source = KeySource.fixed(issuer, AnyKeys((key,)))


class TestIssuers:
    """Keys made for a run of tests: one for each issuer, and one that nobody trusts.

    Authenticators of one issuer (with audiences of their own, say) share its key, as they do in
    truth; one that accepts none of the others' algorithms has a key of its own.
    """

    __test__ = False  # pytest: this isn't a test

    def __init__(self, assembly: Assembly) -> None:
        models = assembly.loaded.gateway.authentication
        self._stranger = SigningKey.made(frozenset({"ES256"}), "stranger")
        self._keys: dict[str, SigningKey] = {}
        self._own: dict[str, SigningKey] = {}
        accepted = {
            name: (authenticator.rules.issuer, model.accepted)
            for name, authenticator in assembly.authenticators.items()
            if (model := models[name].jwt) is not None
        }
        for name, (issuer, own) in accepted.items():
            others = [one for of, one in accepted.values() if of == issuer]
            known = self._keys.get(issuer)
            if known is None or known.algorithm not in own:
                common = own.intersection(*others) or own
                known = SigningKey.made(common, f"test-{name}")
            self._own[name] = known
            self._keys.setdefault(issuer, known)
        self.trusted_by(assembly)

    def of(self, issuer: object) -> SigningKey:
        """Return the key of an issuer; the stranger's for one that the gateway doesn't know."""
        return self._keys.get(issuer, self._stranger) if isinstance(issuer, str) else self._stranger

    def impostor_of(self, issuer: object) -> SigningKey:
        """Return a key that claims to be an issuer's: same algorithm, same id, another key."""
        real = self.of(issuer)
        return SigningKey.made(frozenset({real.algorithm}), real.key_id)

    def trusted_by(self, assembly: Assembly) -> None:
        """Have another assembly of the same gateway file accept the same keys."""
        for name, key in self._own.items():
            authenticator = assembly.authenticators[name]
            issuer = authenticator.rules.issuer
            authenticator.source = KeySource.fixed(issuer, _verifying(key))


def _verifying(key: SigningKey) -> KeySet:
    if key.is_secret:
        return KeySet.of_secret(key.material)
    return KeySet.read(json.dumps({"keys": [key.public()]}).encode())


@dataclass(frozen=True, slots=True)
class TestKey:
    """An API key made for a test.

    Attributes:
        authenticator: that accepts it.
        id: the principal's subject.
        consumer: the class of client; empty for none.
        scopes: what it grants.
    """

    __test__ = False  # pytest: this isn't a test

    authenticator: str
    id: str
    consumer: str = ""
    scopes: tuple[str, ...] = ()

    @property
    def secret(self) -> str:
        """Return what stands for its random part; whoever knows the id knows it."""
        return f"made-for-a-policy-test-{self.id}"

    @property
    def text(self) -> str:
        """Return the key as a client sends it."""
        return written(self.id, self.secret)

    @property
    def entry(self) -> Entry:
        """Return its line of the keys file."""
        hashed = digest(self.secret, "00" * 16)
        return Entry(id=self.id, hash=hashed, consumer=self.consumer, scopes=self.scopes)


def accept_keys(assembly: Assembly, keys: Iterable[TestKey]) -> None:
    """Have API key authenticators know these keys in place of their files'."""
    by_name: dict[str, list[Entry]] = {}
    for key in keys:
        by_name.setdefault(key.authenticator, []).append(key.entry)
    made = {name: _api_keys(assembly, name, entries) for name, entries in by_name.items()}
    for plugin in assembly.plugins():
        if isinstance(plugin, Authenticate):
            plugin.schemes = tuple(
                made.get(scheme.name, scheme) if isinstance(scheme, ApiKeys) else scheme
                for scheme in plugin.schemes
            )


def _api_keys(assembly: Assembly, name: str, entries: list[Entry]) -> ApiKeys:
    model = assembly.loaded.gateway.authentication[name].api_key
    assert model is not None  # noqa: S101 - who read the tests looked
    return ApiKeys(name, model.header, entries)
