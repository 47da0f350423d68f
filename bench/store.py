"""The store in memory: does it stay in its bound, and what does it keep?

A million distinct keys go through a store of 64 MiB; the process's memory is read from the kernel.
A Zipf(1.0) trace goes through it and through a plain least-recently-used store of equal size.
"""

from __future__ import annotations

import argparse
import bisect
import gc
import itertools
import json
import os
import random
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.adapters.memory_objects import LARGEST, PLACE, MemoryObjects
from extproc.caching import answering
from extproc.caching.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")
_HERE = Path(__file__).parent
_OBJECT = 1000  # what an object of the trace costs


def memory() -> int:
    """Return the resident memory of this process, bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def entry(number: int, size: int) -> Entry:
    """Return a stored response as a small API makes them; each was answered with."""
    headers = (
        ("content-type", "application/json"),
        ("date", f"Tue, 24 Nov 2026 10:00:{number % 60:02d} GMT"),
        ("etag", f'"{number:x}-{size:x}"'),
        ("cache-control", f"max-age={60 + number % 1000}"),
        ("server", f"api-{number % 7}"),
    )
    body = (f"{number}:" * (size // 5 + 1))[:size].encode()
    made = Entry(200, headers, body, 1e9, 0.0, 60.0, uri=f"http://shop/items/{number}?page=1")
    made.ready = answering.whole(made, 1e9)
    made.ready.encoded = {"ext_proc": bytes(size + 300)}
    return made


def bounded(keys: int, size: int) -> dict[str, Any]:
    """Put distinct keys into a store; return what the process grew by."""
    before = memory()
    store = MemoryObjects()
    peak = 0
    for number in range(keys):
        key = ("items@0123456789abcdef", "http", "shop", f"/items/{number}?page={number % 9}")
        kept = (entry(number, size),)
        if store.get(key) is None:
            store.put(key, kept, kept[0].cost)
        if number % (keys // 20 or 1) == 0:
            peak = max(peak, memory() - before)
    peak = max(peak, memory() - before)
    return {
        "keys": keys,
        "body_bytes": size,
        "kept": len(store),
        "counted_mib": round(store.cost / (1 << 20), 1),
        "grew_mib": round(peak / (1 << 20), 1),
        "of_bound": round(peak / LARGEST, 3),
    }


class _Lru:
    """A plain least-recently-used store that counts alike, to compare with."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._kept: OrderedDict[Hashable, int] = OrderedDict()
        self._cost = 0

    def get(self, key: Hashable) -> int | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, _value: object, cost: int) -> None:
        cost += PLACE
        self._kept[key] = cost
        self._cost += cost
        while self._cost > self._largest:
            self._cost -= self._kept.popitem(last=False)[1]


def zipf(keys: int, requests: int, seed: int = 7) -> Iterator[int]:
    """Yield keys of which the n-th is asked for in proportion to 1/n."""
    sums = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    chance = random.Random(seed)  # noqa: S311 - the same trace each time
    for _ in range(requests):
        yield bisect.bisect_left(sums, chance.random() * sums[-1])


def ratio(store: Any, trace: list[int]) -> float:
    """Return how much of the second half of a trace a store answers."""
    hits = 0
    half = len(trace) // 2
    for place, key in enumerate(trace):
        if store.get(key) is not None:
            hits += place >= half
        else:
            store.put(key, key, _OBJECT)
    return hits / (len(trace) - half)


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keys", type=int, default=1_000_000)
    arguments.add_argument("--requests", type=int, default=500_000)
    arguments.add_argument("--output", type=Path, default=_HERE / "store.json")
    options = arguments.parse_args()
    grown = bounded(options.keys, 200)
    print(
        f"{grown['keys']} keys through 64 MiB: {grown['kept']} kept, {grown['counted_mib']} MiB "
        f"counted, the process grew by {grown['grew_mib']} MiB ({grown['of_bound']} of the bound)"
    )
    trace = list(zipf(100_000, options.requests))
    ratios = {}
    for kept in (1_000, 5_000, 20_000):
        largest = kept * _OBJECT
        ratios[str(kept)] = {
            "w_tinylfu": round(ratio(MemoryObjects(largest), trace), 4),
            "lru": round(ratio(_Lru(largest), trace), 4),
        }
        found = ratios[str(kept)]
        print(
            f"Zipf(1.0), 100000 keys, {kept * _OBJECT / 1e6:.0f} MB: W-TinyLFU "
            f"{found['w_tinylfu']:.1%}, plain LRU {found['lru']:.1%}"
        )
    options.output.write_text(json.dumps({"bound": grown, "zipf": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()
