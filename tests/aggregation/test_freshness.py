"""A composed answer is fresh as long as its parts are."""

from __future__ import annotations

import pytest

from extproc.aggregation.freshness import Freshness
from extproc.core.headers import Headers
from extproc.core.ports import Answered

NOW = 1_800_000_000.0


def part(control: str = "", *, lifetime: float = 0.0, stale: bool = False, **more: str) -> Answered:
    """Return a part's answer."""
    headers = Headers([("cache-control", control)] if control else [])
    for name, value in more.items():
        headers.add(name.replace("_", "-"), value)
    source = "hit" if lifetime or stale else ""
    return Answered(200, headers, b"", lifetime, ("t",) if lifetime else (), stale, source)


@pytest.mark.parametrize(
    ("parts", "ttl", "control"),
    [
        ([part("max-age=60"), part("max-age=20")], None, "max-age=20"),
        ([part("max-age=60, s-maxage=5"), part("max-age=20")], None, "max-age=5"),
        ([part("max-age=60", age="50")], None, "max-age=10"),
        ([part("max-age=60"), part()], None, None),
        ([part("max-age=60"), part()], 30.0, "max-age=30"),
        ([part()], None, None),
        ([part("max-age=60"), part("private")], 30.0, "private, max-age=30"),
        ([part("max-age=60"), part("no-store")], None, "no-store"),
        ([part("max-age=60"), part("no-cache")], 30.0, "no-cache"),
        ([part("max-age=60"), part("max-age=9", set_cookie="a=b")], None, "private, max-age=9"),
        ([part("max-age=x")], None, "max-age=0"),
        ([part(lifetime=7.9), part("max-age=60")], None, "max-age=7"),
        ([part(stale=True), part("max-age=60")], None, "no-store"),
        ([part(expires="Fri, 15 Jan 2027 08:01:00 GMT")], None, "max-age=60"),
        ([part(expires="soon")], None, "max-age=0"),
    ],
)
def test_what_is_said(parts: list[Answered], ttl: float | None, control: str | None) -> None:
    """The shortest lifetime, and whatever any part forbids (RFC 9111)."""
    freshness = Freshness(ttl)
    for one in parts:
        freshness.took(one, NOW)
    assert freshness.control(private=False) == control


def test_a_partial_answer_is_never_stored() -> None:
    """C13: not as complete, and not at all."""
    freshness = Freshness(None)
    freshness.took(part("max-age=60"), NOW)
    freshness.whole = False
    assert freshness.control(private=False) == "no-store"


def test_an_answer_for_one_principal() -> None:
    """Whoever stores it further on is told; tags are gathered, each once."""
    freshness = Freshness(None)
    freshness.took(part("max-age=60"), NOW)
    assert freshness.control(private=True) == "private, max-age=60"
    freshness.took(part(lifetime=50.0), NOW)
    freshness.took(part(lifetime=40.0), NOW)
    assert list(freshness.tags) == ["t"]
