"""Credentials are taken out of cookies, parameters and the Referer before the upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.authentication.plugin import HideCredentials
from extproc.core.headers import Headers
from extproc.core.values import Request


def hidden(target: str = "/", **headers: str) -> Request:
    """Return a request after the plugin saw it."""
    request = Request(target=target, headers=Headers(list(headers.items())))
    HideCredentials(cookies=("tok",), parameters=("access_token",)).on_request(request)
    return request


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("tok=1", None),
        ("a=1; tok=2", "a=1"),
        ("a=1", "a=1"),
        ('tok=1; a="b;c"; tok=2; d', 'a="b; c"; d'),
        ("tok=1;a=1;;b", "a=1; b"),
    ],
)
def test_cookies(sent: str, kept: str | None) -> None:
    """Others stay as they are."""
    assert hidden(cookie=sent).headers.get("cookie") == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("http://shop.test/q?access_token=T", "http://shop.test/q"),
        ("http://shop.test/q?a=1&%61ccess_token=T&b=2", "http://shop.test/q?a=1&b=2"),
        ("http://shop.test/q?access_token=T#x", "http://shop.test/q"),
        ("http://shop.test/q?a=%ff&access_token=T", "http://shop.test/q"),
        ("http://shop.test/q?a=1#x", "http://shop.test/q?a=1#x"),
        ("http://shop.test/q", "http://shop.test/q"),
    ],
)
def test_l5_the_referer(sent: str, kept: str) -> None:
    """L5: a page that was opened with a token says so to whatever it asks for."""
    assert hidden(referer=sent).headers.get("referer") == kept


@given(st.text(st.sampled_from("access_token=&%61?#T;"), max_size=60))
def test_l5_no_token_is_left_in_any_referer(query: str) -> None:
    """L5: in whatever spelling."""
    left = hidden(referer=f"http://shop.test/q?{query}").headers.get("referer") or ""
    pairs = left.partition("?")[2].partition("#")[0].split("&")
    names = [pair.partition("=")[0].replace("%61", "a") for pair in pairs]
    assert "access_token" not in names
