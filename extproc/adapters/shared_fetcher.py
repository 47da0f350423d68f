"""Fetches that the workers of one gateway make once for all.

What one worker got lies in the runtime folder, under a lock that the kernel gives back when a
process dies: whoever wants the same within a moment reads it there. Failures count as well, so
that an issuer that is away isn't asked by every worker in turn.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from extproc.core.answered import Answered
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from extproc.core.ports import Fetcher

_OK = 200
_LOOK_EVERY = 0.02


class SharedFetcher:
    """See `Fetcher`.

    Args:
        fetcher: what asks.
        folder: of the gateway's workers and nobody else; made if need be.
    """

    def __init__(self, fetcher: Fetcher, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fetcher = fetcher
        self._folder = folder

    async def fetch(
        self,
        url: str,
        *,
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (("accept", "application/json"),),
        body: bytes = b"",
        shared_for: float = 0.0,
        sound: Callable[[bytes], object] | None = None,
    ) -> Answered:
        """Ask; see `Fetcher.fetch`."""
        if not shared_for or method != "GET":
            return await self._fetcher.fetch(
                url, seconds=seconds, max_bytes=max_bytes, method=method, headers=headers, body=body
            )
        place = self._place(url)
        async with _alone(place, seconds):
            known = self._known(place, shared_for)
            if known is not None:
                return known
            try:
                answer = await self._fetcher.fetch(
                    url, seconds=seconds, max_bytes=max_bytes, headers=headers
                )
            except UpstreamFault as fault:
                _write(place.with_suffix(".failed"), fault.reason.encode())
                raise
            if answer.status == _OK and (sound is None or sound(answer.body)):
                _write(place, answer.body)
                place.with_suffix(".failed").unlink(missing_ok=True)
            else:
                _write(place.with_suffix(".failed"), b"%d" % answer.status)
            return answer

    def kept(self, url: str) -> Answered | None:
        """Return what was got last, by any worker; see `Fetcher.kept`."""
        found = _read(self._place(url))
        return None if found is None else replace(_answered(found[1]), age=found[0])

    def _known(self, place: Path, seconds: float) -> Answered | None:
        """Return what was got so long ago at most.

        Raises:
            UpstreamFault: it failed, so long ago at most.
        """
        failed = _read(place.with_suffix(".failed"))
        if failed is not None and failed[0] < seconds:
            text = failed[1].decode()
            if text.isdecimal():
                return Answered(int(text), Headers(), b"", age=failed[0])
            raise UpstreamFault(text, "another worker asked in vain")
        found = _read(place)
        if found is None or found[0] >= seconds:
            return None
        return replace(_answered(found[1]), age=found[0])

    def _place(self, url: str) -> Path:
        return self._folder / hashlib.sha256(url.encode()).hexdigest()


def _answered(body: bytes) -> Answered:
    return Answered(_OK, Headers(), body)


def _read(place: Path) -> tuple[float, bytes] | None:
    """Return how old a file is, seconds, and what it holds."""
    try:
        with place.open("rb") as file:
            age = time.time() - os.fstat(file.fileno()).st_mtime
            return max(age, 0.0), file.read()
    except OSError:
        return None


def _write(place: Path, data: bytes) -> None:
    fresh = place.with_name(f"{place.name}.new")
    fresh.write_bytes(data)
    fresh.replace(place)


@asynccontextmanager
async def _alone(place: Path, seconds: float) -> AsyncIterator[None]:
    """Hold a lock.

    Raises:
        UpstreamFault: another worker had it for too long.
    """
    ends = time.monotonic() + seconds
    with place.with_suffix(".lock").open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > ends:
                    raise UpstreamFault("timeout", "another worker waits for the answer") from error
                await asyncio.sleep(_LOOK_EVERY)
            else:
                break
        yield
