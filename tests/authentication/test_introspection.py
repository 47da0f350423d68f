"""What is remembered of opaque tokens, and for how long."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import pytest

from extproc.authentication.introspection import Introspection, Server
from extproc.authentication.tokens import Refused
from extproc.core.answered import Answered
from extproc.core.headers import Headers
from extproc.testing import Trial
from tests.authentication.test_jwt import OTHERS

if TYPE_CHECKING:
    from extproc.core.principal import Principal

URL = "http://issuer/introspect"


class Place:
    """An introspection of a server whose answers are given beforehand."""

    def __init__(self) -> None:
        self.trial = Trial()
        self.introspection = Introspection("opaque", Server(URL, "gateway", "secret", 3600.0))
        self.introspection.start(self.trial.services)

    def says(self, members: dict[str, object]) -> None:
        """Let the server answer this to every question from here."""
        body = json.dumps(members).encode()
        headers = Headers([("content-type", "application/json")])
        self.trial.outside.answers[URL] = Answered(200, headers, body)

    @property
    def asked(self) -> int:
        """How many questions there were."""
        return len(self.trial.outside.calls)

    async def verify(self, token: str) -> Principal:
        """Verify a token."""
        found = self.introspection.verify(token)
        return await found if inspect.isawaitable(found) else found


async def test_an_answer_is_remembered_for_its_time() -> None:
    """No question twice before it, one after it."""
    place = Place()
    place.says({"active": True, "sub": "alice"})
    for _ in range(3):
        assert (await place.verify("t")).subject == "alice"
    assert place.asked == 1
    place.trial.clock.move(3601)
    await place.verify("t")
    assert place.asked == 2


async def test_what_is_remembered_is_bounded_in_bytes() -> None:
    """A server whose answers are large doesn't fill the memory: the oldest are let go."""
    place = Place()
    place.says({"active": True, "sub": "alice", "more": "x" * 200_000})
    for number in range(100):
        await place.verify(f"t{number}")
    assert place.asked == 100
    await place.verify("t99")
    assert place.asked == 100
    await place.verify("t0")
    assert place.asked == 101


async def test_what_was_replaced_is_not_counted_twice() -> None:
    """One token that is asked about again and again pushes no other one out."""
    place = Place()
    place.says({"active": True, "sub": "alice", "more": "x" * 200_000})
    for _ in range(200):
        await place.verify("again")
        place.trial.clock.move(3601)
    place.says({"active": True, "sub": "bob"})
    await place.verify("other")
    place.says({"active": True, "sub": "alice", "more": "x" * 200_000})
    for number in range(50):
        await place.verify(f"t{number}")
    asked = place.asked
    assert (await place.verify("other")).subject == "bob"
    assert place.asked == asked


async def test_a_refusal_is_remembered_shortly() -> None:
    """A token that isn't active yet may be soon."""
    place = Place()
    place.says({"active": False})
    for _ in range(2):
        with pytest.raises(Refused):
            await place.verify("t")
    assert place.asked == 1
    place.says({"active": True, "sub": "alice"})
    place.trial.clock.move(6)
    assert (await place.verify("t")).subject == "alice"


@pytest.mark.parametrize("members", OTHERS)
async def test_j21_what_is_active_may_be_for_something_else(members: dict[str, object]) -> None:
    """J21: servers are asked about any token, and say of a refresh token that it is active."""
    place = Place()
    place.says({"active": True, "sub": "alice", **members})
    with pytest.raises(Refused, match="typ"):
        await place.verify("t")


@pytest.mark.parametrize(
    "members",
    [{"cnf": {"jkt": "x" * 43}}, {"cnf": {"x5t#S256": "x" * 43}}, {"token_type": "DPoP"}],
)
async def test_a_bound_token_is_no_bearer_token(members: dict[str, object]) -> None:
    """The server says that it is good with a proof alone (RFC 9449 section 6.2)."""
    place = Place()
    place.says({"active": True, "sub": "alice", **members})
    with pytest.raises(Refused, match="cnf"):
        await place.verify("t")
