"""Several credentials at once, some of which take time: each counts, and none is left running."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, ClassVar

import pytest

from extproc.authentication.plugin import Authenticate
from extproc.authentication.tokens import NotReady, Refused
from extproc.core.principal import Principal
from extproc.testing import Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.core.ports import Services
    from extproc.core.values import Request


class Named:
    """A scheme whose credential says what becomes of it: good, bad, away, or the same `later`."""

    of_connection: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, services: Services) -> None:
        """Need nothing."""

    def presented(self, request: Request) -> str | None:
        """Return the header of this name."""
        return request.headers.get(self.name)

    def verify(self, credential: str, request: Request) -> Principal | Awaitable[Principal]:
        """Do as the credential says."""
        del request
        if credential.startswith("later "):
            return self._later(credential.removeprefix("later "))
        return self._said(credential)

    async def _later(self, credential: str) -> Principal:
        await asyncio.sleep(0)
        return self._said(credential)

    def _said(self, credential: str) -> Principal:
        if credential == "bad":
            raise Refused("signature")
        if credential == "away":
            raise NotReady("keys_missing", "")
        return Principal("jwt", self.name, self.name)

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """Ask for nothing."""
        del refused
        return ()


@pytest.mark.parametrize("first", ["good", "later good", "bad", "later bad", "away", "later away"])
@pytest.mark.parametrize("second", ["good", "later good", "bad", "later bad", "away"])
async def test_each_counts(first: str, second: str) -> None:
    """Both good: the last one's principal; else the first trouble in order, whatever waits."""
    trial = Trial(Authenticate(schemes=(Named("a"), Named("b")), every=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a coroutine that nobody awaited
        answer = await trial.request(headers={"a": first, "b": second})
        gc.collect()
    said = [one.removeprefix("later ") for one in (first, second)]
    if said == ["good", "good"]:
        assert answer.status == 200
    else:
        assert answer.status in {401, 503}
        assert (answer.status == 503) <= ("away" in said)


async def test_one_is_missing() -> None:
    """401, whatever the others say."""
    trial = Trial(Authenticate(schemes=(Named("a"), Named("b")), every=True))
    for headers in ({}, {"a": "good"}, {"b": "later good"}):
        assert (await trial.request(headers=headers)).status == 401
