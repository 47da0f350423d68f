"""A composed answer is fresh as long as its parts are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.aggregation.freshness import Freshness
from extproc.caching import composing, storing
from extproc.caching.freshness import initial_age
from extproc.caching.policy import Policy
from extproc.core.answered import Answered
from extproc.core.headers import Headers

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # now
EARLIER = "Fri, 15 Jan 2027 07:58:20 GMT"  # 100 s ago


def part(*controls: str, stale: Any = False, **more: str) -> Answered:
    """Return a part's answer, as it comes through the cache."""
    headers = Headers([("cache-control", control) for control in controls])
    for name, value in more.items():
        headers.add(name.replace("_", "-"), value)
    said, old = composing.reuse(200, headers, NOW), initial_age(headers, NOW, NOW)
    return Answered(200, headers, b"", 0.0, ("t",), stale, reuse=said, old=old)


def control(parts: list[Answered], ttl: float | None = None, *, private: bool = False) -> str:
    """Return what a composed answer says."""
    freshness = Freshness(ttl)
    for one in parts:
        freshness.took(one)
    return freshness.control(private=private) or ""


@pytest.mark.parametrize(
    ("parts", "ttl", "said"),
    [
        ([part("max-age=60"), part("max-age=20")], None, "max-age=20"),
        ([part("max-age=60, s-maxage=5"), part("max-age=20")], None, "max-age=5, must-revalidate"),
        (
            [part("max-age=5, s-maxage=60"), part("max-age=20")],
            None,
            "max-age=5, s-maxage=20, must-revalidate",
        ),
        ([part("max-age=60", age="50")], None, "max-age=10"),
        ([part("max-age=60", date=EARLIER)], None, "max-age=0"),
        ([part("max-age=160", date=EARLIER)], None, "max-age=60"),
        ([part("max-age=60", "max-age=0")], None, "max-age=0"),
        ([part("max-age=60"), part()], None, ""),
        ([part("max-age=60"), part()], 30.0, "max-age=30"),
        ([part()], None, ""),
        ([part("must-revalidate")], None, ""),
        ([part("must-revalidate")], 30.0, "max-age=30, must-revalidate"),
        ([part("max-age=60"), part("private")], 30.0, "private, max-age=30"),
        ([part("max-age=60"), part("no-store")], None, "no-store"),
        ([part("max-age=60, no-store, must-understand")], None, "max-age=60"),
        ([part("max-age=60"), part("no-cache")], 30.0, "no-cache"),
        ([part("max-age=60"), part("max-age=9", set_cookie="a=b")], None, "private, max-age=9"),
        ([part("max-age=60", vary="*")], None, "no-store"),
        ([part("max-age=60", vary="accept-language")], None, "max-age=60"),
        ([part("max-age=x")], None, "max-age=0"),
        ([part("max-age=60", cdn_cache_control="no-store")], None, "no-store"),
        ([part(cdn_cache_control="no-store")], 30.0, "no-store"),
        ([part("max-age=60", cdn_cache_control="max-age=9")], None, "max-age=9"),
        ([part("no-store", cdn_cache_control="max-age=9")], None, "no-store"),
        ([part("max-age=1, must-revalidate")], None, "max-age=1, must-revalidate"),
        ([part("s-maxage=1")], None, "s-maxage=1, must-revalidate"),
        ([part("s-maxage=1, max-age=1")], None, "max-age=1, must-revalidate"),
        ([part("max-age=60", x_gateway_partial="ads")], None, "no-store"),
        ([part("max-age=60", stale=True), part("max-age=60")], None, "no-store"),
        ([part(expires="Fri, 15 Jan 2027 08:01:00 GMT")], None, "max-age=60"),
        ([part(expires="Fri, 15 Jan 2027 08:01:00 GMT", date=EARLIER)], None, "max-age=60"),
        ([part(expires="soon")], None, "max-age=0"),
        ([part(last_modified="Fri, 15 Jan 2027 07:50:00 GMT", date=DATE)], None, "max-age=60"),
        ([part(last_modified="Fri, 15 Jan 2027 07:50:00 GMT", date=DATE)], 30.0, "max-age=30"),
        ([part(last_modified="Fri, 15 Jan 2027 07:50:00 GMT", date=DATE)], 90.0, "max-age=90"),
        (
            [part("max-age=70"), part(last_modified="Fri, 15 Jan 2027 07:50:00 GMT", date=DATE)],
            90.0,
            "max-age=70",
        ),
        (
            [
                part(
                    "max-age=5",
                    cdn_cache_control="public",
                    last_modified="Fri, 15 Jan 2027 07:50:00 GMT",
                )
            ],
            90.0,
            "max-age=5, s-maxage=90",
        ),
        ([Answered(200, Headers([("cache-control", "max-age=60")]), b"")], 30.0, "no-store"),
    ],
)
def test_what_is_said(parts: list[Answered], ttl: float | None, said: str) -> None:
    """The shortest lifetime, and whatever any part forbids (RFC 9111)."""
    assert control(parts, ttl) == said


DIRECTIVES = (
    *("max-age=60", "max-age=0", "max-age=200", "s-maxage=9", "s-maxage", "public", "x"),
    *("no-store", "private", "no-cache", "must-revalidate", "must-understand"),
)
_fields = st.dictionaries(
    st.sampled_from(["cache-control", "cdn-cache-control", "expires", "date", "age", "vary"]),
    st.one_of(
        st.lists(
            st.sampled_from(DIRECTIVES),
            max_size=3,
        ).map(", ".join),
        st.sampled_from([DATE, EARLIER, "Fri, 15 Jan 2027 08:01:00 GMT", "*", "30", "soon"]),
    ),
)


@given(st.lists(_fields, min_size=1, max_size=3))
def test_no_composed_answer_outlives_its_parts(parts: list[dict[str, str]]) -> None:
    """What this cache wouldn't keep of a part it doesn't keep of what is made of it."""
    said = control(
        [part(**{n.replace("-", "_"): v for n, v in fields.items()}) for fields in parts]
    )
    composed = Headers([("cache-control", said)] if said else [])
    policy = Policy(stale_while_revalidate=60.0)
    whole = storing.kept(storing.Asked(), 200, composed, policy, NOW)
    if whole.why_not:
        return
    for fields in parts:
        headers = Headers(fields.items())
        kept = storing.kept(storing.Asked(), 200, headers, policy, NOW)
        assert not kept.why_not or kept.why_not == "no-lifetime"
        left = kept.lifetime - initial_age(headers, NOW, NOW)
        assert whole.validate or whole.lifetime <= max(left, 0.0)
        assert whole.validate >= kept.validate
        assert whole.validate or whole.never_stale >= kept.never_stale


def test_a_partial_answer_is_never_stored() -> None:
    """C13: not as complete, and not at all."""
    freshness = Freshness(None)
    freshness.took(part("max-age=60"))
    freshness.whole = False
    assert freshness.control(private=False) == "no-store"


def test_an_answer_for_one_principal() -> None:
    """Whoever stores it further on is told; tags are gathered, each once."""
    freshness = Freshness(None)
    freshness.took(part("max-age=60"))
    assert freshness.control(private=True) == "private, max-age=60"
    freshness.took(part("max-age=5, s-maxage=50"))
    assert freshness.control(private=True) == "private, max-age=5, must-revalidate"
    assert list(freshness.tags) == ["t"]
