"""Fetches that several workers make: one of them asks, all get the answer."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from extproc.adapters.shared_fetcher import SharedFetcher
from extproc.core.errors import UpstreamFault
from extproc.testing import Scripted, answered

if TYPE_CHECKING:
    from pathlib import Path

    from extproc.core.answered import Answered

URL = "https://id.example/keys"


class Slow(Scripted):
    """Takes a moment for each answer."""

    async def fetch(self, url: str, **more: Any) -> Answered:
        """Wait, then answer."""
        await asyncio.sleep(0.05)
        return await super().fetch(url, **more)


async def get(fetcher: SharedFetcher, shared_for: float = 10.0) -> bytes:
    """Return what is got."""
    answer = await fetcher.fetch(URL, seconds=5, max_bytes=100, shared_for=shared_for)
    return answer.body


async def test_J33_a_crowd_of_workers_asks_once(tmp_path: Path) -> None:
    """J33: whoever comes while one asks waits for its answer, and knows how old it is."""
    outside = Slow({URL: answered(b"keys")})
    workers = [SharedFetcher(outside, tmp_path / "fetched") for _ in range(8)]
    got = await asyncio.gather(*(get(worker) for worker in workers for _ in range(5)))
    assert set(got) == {b"keys"}
    assert len(outside.calls) == 1
    assert (tmp_path / "fetched").stat().st_mode & 0o777 == 0o700
    [place] = [p for p in (tmp_path / "fetched").iterdir() if not p.suffix]
    os.utime(place, (0, time.time() - 7))
    answer = await workers[0].fetch(URL, seconds=5, max_bytes=100, shared_for=10)
    assert 6.5 < answer.age < 9
    kept = workers[1].kept(URL)
    assert kept is not None
    assert (kept.body, 6.5 < kept.age < 9) == (b"keys", True)


async def test_what_is_older_is_asked_for_again(tmp_path: Path) -> None:
    """Each fetch says how old an answer may be; none is shared without being asked to."""
    outside = Scripted({URL: answered(b"keys")})
    fetcher = SharedFetcher(outside, tmp_path)
    assert await get(fetcher) == await get(fetcher, 0.0) == b"keys"
    assert len(outside.calls) == 2
    [place] = [p for p in tmp_path.iterdir() if not p.suffix]
    os.utime(place, (0, time.time() - 11))
    assert await get(fetcher) == b"keys"
    assert len(outside.calls) == 3


@pytest.mark.parametrize("bad", [UpstreamFault("connect", "away"), answered(b"oops", 503)])
async def test_J31_a_failure_counts_for_all_and_hides_nothing(
    tmp_path: Path, bad: UpstreamFault
) -> None:
    """J31: an issuer that is away is asked once; the last good answer is kept all the while."""
    outside = Scripted({URL: answered(b"keys")})
    one, two = SharedFetcher(outside, tmp_path), SharedFetcher(outside, tmp_path)
    await get(one)
    outside.answers[URL] = bad
    for place in tmp_path.iterdir():
        os.utime(place, (0, time.time() - 60))
    for fetcher in (one, two, one):
        got = asyncio.ensure_future(fetcher.fetch(URL, seconds=5, max_bytes=100, shared_for=10))
        await asyncio.wait((got,))
        fault = got.exception()
        seen = fault.reason if isinstance(fault, UpstreamFault) else got.result().status
        assert seen in {"connect", 503}
    assert len(outside.calls) == 2
    kept = two.kept(URL)
    assert kept is not None
    assert kept.body == b"keys"
    assert one.kept("https://other.example") is None


async def test_J31_what_is_not_sound_replaces_nothing(tmp_path: Path) -> None:
    """J31: it counts as a failure, for every worker, and what was good before is kept."""
    outside = Scripted({URL: answered(b"keys")})
    one, two = SharedFetcher(outside, tmp_path), SharedFetcher(outside, tmp_path)

    async def got(fetcher: SharedFetcher) -> tuple[int, bytes]:
        answer = await fetcher.fetch(
            URL, seconds=5, max_bytes=100, shared_for=10, sound=lambda body: body != b"<html>"
        )
        return answer.status, answer.body

    assert await got(one) == (200, b"keys")
    outside.answers[URL] = answered(b"<html>")
    for place in tmp_path.iterdir():
        os.utime(place, (0, time.time() - 60))
    assert await got(one) == (200, b"<html>")
    assert await got(two) == (200, b"")  # nothing of it: it has no use
    assert len(outside.calls) == 2
    kept = two.kept(URL)
    assert kept is not None
    assert (kept.body, kept.age > 50) == (b"keys", True)
    outside.answers[URL] = answered(b"others")
    [failed] = tmp_path.glob("*.failed")
    os.utime(failed, (0, time.time() - 60))
    assert await got(two) == (200, b"others")
    assert not failed.exists()
    assert await got(one) == (200, b"others")


async def test_a_lock_that_nobody_gives_back_is_an_error_in_time(tmp_path: Path) -> None:
    """A worker that hangs while it asks holds up the others for one fetch's time, not for ever."""

    class Never(Scripted):
        async def fetch(self, url: str, **more: Any) -> Answered:
            await asyncio.Event().wait()
            raise AssertionError

    hung = SharedFetcher(Never(), tmp_path)
    asking = asyncio.ensure_future(get(hung))
    await asyncio.sleep(0)
    other = SharedFetcher(Scripted({URL: answered(b"keys")}), tmp_path)
    with pytest.raises(UpstreamFault, match="another worker"):
        await other.fetch(URL, seconds=0.1, max_bytes=100, shared_for=10)
    asking.cancel()
    await asyncio.wait((asking,))
    assert await get(other) == b"keys"
