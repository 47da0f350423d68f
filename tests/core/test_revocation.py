"""What a revocation is about: by id, by subject, by when a credential was issued."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core import revocation as revocation_module
from extproc.core.principal import ANONYMOUS, Principal
from extproc.core.revocation import BadRevocation, Revocation, Revoked
from extproc.testing import ManualClock

NOW = ManualClock().now()
AGES = 1000.0


def revoked(*revocations: Revocation, clock: ManualClock | None = None) -> Revoked:
    """Return what holds these."""
    made = Revoked(clock or ManualClock())
    for one in revocations:
        made.add(one)
    return made


def revocation(**fields: Any) -> Revocation:
    """Return one that was made now."""
    return Revocation(**({"at": NOW, "until": NOW + AGES} | fields))


def of_token(**claims: Any) -> Principal:
    """Return the principal of a token."""
    return Principal(
        "jwt", "shop", str(claims.get("sub", "")), claims=MappingProxyType(dict(claims))
    )


KEY = Principal("api_key", "keys", "k1")


def test_a_token_by_its_id() -> None:
    """Only that one, whenever it was issued."""
    held = revoked(revocation(token="t1"))
    assert held.hold(of_token(jti="t1"))
    assert not held.hold(of_token(jti="t2"))
    assert not held.hold(of_token(sub="t1"))
    assert not held.hold(KEY)


def test_a_subject() -> None:
    """What was issued until then; a new login is good; what has no moment is gone for good."""
    held = revoked(revocation(subject="alice"), revocation(subject="k1"))
    assert held.hold(of_token(sub="alice", iat=NOW))
    assert held.hold(of_token(sub="alice"))
    assert held.hold(of_token(sub="alice", iat="yesterday"))
    assert not held.hold(of_token(sub="alice", iat=NOW + 1))
    ahead = replace(of_token(sub="alice", iat=NOW + 4), ahead=5.0)
    assert held.hold(ahead)  # it may have been there already, by a clock that is ahead of ours
    assert not held.hold(replace(ahead, ahead=3.0))
    assert not held.hold(of_token(sub="bob", iat=NOW))
    assert held.hold(KEY)


def test_all_before() -> None:
    """Every token, of everybody; keys and passwords have no moment."""
    held = revoked(revocation(before=NOW - 10))
    assert held.hold(of_token(sub="alice", iat=NOW - 10))
    assert not held.hold(of_token(sub="alice", iat=NOW - 9))
    assert not held.hold(KEY)
    assert not held.hold(ANONYMOUS)


def test_the_later_moment_holds() -> None:
    """Whatever the order in which two were made."""
    for order in ((NOW - 10, NOW - 5), (NOW - 5, NOW - 10)):
        held = revoked(*(revocation(before=moment) for moment in order))
        assert held.hold(of_token(iat=NOW - 5))


def test_only_one_authenticator() -> None:
    """The same name elsewhere is somebody else."""
    held = revoked(revocation(subject="alice", authenticator="partners"))
    assert not held.hold(of_token(sub="alice", iat=NOW))
    assert revoked(revocation(subject="alice", authenticator="shop")).hold(of_token(sub="alice"))


def test_it_ends() -> None:
    """When the tokens it is about have expired anyway."""
    clock = ManualClock()
    held = revoked(revocation(token="t1"), clock=clock)
    clock.move(AGES)
    assert not held.hold(of_token(jti="t1"))


@pytest.mark.parametrize(
    "fields",
    [{}, {"token": "a", "subject": "b"}, {"subject": "a", "before": 1.0}, {"token": "x" * 2000}],
)
def test_what_says_nothing(fields: dict[str, Any]) -> None:
    """Or several things, or too much."""
    with pytest.raises(BadRevocation):
        Revocation(**fields)


@given(st.lists(st.tuples(st.sampled_from("ts"), st.text("abc", min_size=1, max_size=2))))
def test_lookups_are_what_a_search_would_find(made: list[tuple[str, str]]) -> None:
    """Against the plain meaning: any of them is about this principal."""
    fields = {"t": "token", "s": "subject"}
    held = revoked(*(revocation(**{fields[kind]: name}) for kind, name in made))
    for name in ("a", "b", "ab", "c"):
        principal = of_token(jti=name, sub=name, iat=NOW)
        assert held.hold(principal) == any(name == other for _, other in made)


def test_everything_can_be_revoked_however_much_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a moment; what it covers makes room, what it doesn't surely cover stays."""
    monkeypatch.setattr(revocation_module, "_MOST", 3)
    held = revoked(
        revocation(token="old", at=NOW - 7200),
        revocation(token="new", at=NOW - 60),
        revocation(subject="alice", at=NOW - 7200),
    )
    with pytest.raises(BadRevocation, match="revoke by `before`"):
        held.add(revocation(token="next"))
    assert not held.hold(of_token(jti="next"))
    held.add(revocation(before=NOW))
    assert held.hold(of_token(sub="anybody", iat=NOW))
    assert len(held) == 4
    held.add(revocation(token="next"))
    assert len(held) == 4
    for name in ("new", "next"):
        assert held.hold(of_token(jti=name, iat=NOW + 60))
    assert held.hold(of_token(sub="alice", iat=NOW - 7200))
    assert held.hold(Principal("api_key", "keys", "alice"))


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({}, True),
        ({"authenticator": "shop"}, True),
        ({"at": NOW - 3599}, False),
        ({"at": 0.0}, False),
        ({"until": NOW + AGES + 1}, False),
    ],
)
@pytest.mark.parametrize("scope", ["", "shop"])
def test_what_a_moment_covers(scope: str, fields: dict[str, Any], *, covered: bool) -> None:
    """A token that was surely issued before it, of its authenticators, for as long."""
    held = revoked(revocation(before=NOW, authenticator=scope))
    held.add(revocation(**({"token": "t", "at": NOW - 3600} | fields)))
    wide = not scope or fields.get("authenticator") == scope
    assert len(held) == (1 if covered and wide else 2)
    assert held.hold(of_token(jti="t", iat=NOW - 3600))


def test_what_has_ended_adds_nothing() -> None:
    """A new revocation says by itself what it is about."""
    clock = ManualClock()
    held = revoked(revocation(before=NOW - 5), clock=clock)
    clock.move(AGES)
    held.add(revocation(before=NOW - 10, until=NOW + 2 * AGES))
    assert held.hold(of_token(iat=NOW - 10))
    assert not held.hold(of_token(iat=NOW - 5))


@given(st.permutations([("at", 1.0), ("at", 9.0), ("until", 5.0), ("until", AGES)]))
def test_the_same_again_never_holds_for_less(said: list[tuple[str, float]]) -> None:
    """Whatever the order: the later end, and the later moment."""
    clock = ManualClock()
    fields = [{"at": NOW - AGES, "until": NOW + 1.0} | {what: NOW + value} for what, value in said]
    held = revoked(*(revocation(subject="alice", **one) for one in fields), clock=clock)
    clock.move(AGES - 1)
    assert held.hold(of_token(sub="alice", iat=NOW + 9))
    assert not held.hold(of_token(sub="alice", iat=NOW + 10))
