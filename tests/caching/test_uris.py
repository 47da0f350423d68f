"""Whatever way a URI is written: what it names is found by a purge and by an invalidation."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.caching import purging, uris
from extproc.caching.keys import KeyOf
from extproc.caching.plugin import Cache
from extproc.caching.responses import Responses
from extproc.core.errors import BadPurge
from extproc.core.paths import NoNormalForm, normalised
from extproc.core.values import Request, Response
from extproc.testing import Trial

FRESH = {"cache-control": "max-age=60"}


class Stored:
    """A response that is stored for a target."""

    def __init__(self, target: str, host: str = "shop") -> None:
        self.trial = Trial(Cache(key=KeyOf("trial@1")))
        self.target, self.host = target, host
        self.asked = 0

    async def read(self) -> int:
        """Ask for it; return how often the upstream was."""

        def says(*_: object) -> Response:
            self.asked += 1
            return Response(200, FRESH, b"")

        await self.trial.request("GET", self.target, host=self.host, upstream=says)
        return self.asked

    def purge(self, url: str) -> None:
        """Purge by a URL."""
        marks = purging.marks({"url": url}, (None,))
        self.trial.services.shared(Responses).mark(marks)


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/p/caf%c3%a9", "http://shop/p/café"),
        ("/p/caf%c3%a9", "http://shop/p/caf%C3%A9"),
        ("/p/caf%C3%A9", "http://shop/p/caf%c3%a9"),
        ("/p/a%20b", "http://shop/p/a b"),
        ("/p/~me", "http://shop/p/%7eme"),
        ("/p/so", "http://shop/p//so"),
        ("/p/so", "http://shop/p/x/../so"),
        ("/p/so", "http://shop/p/./so"),
        ("/p/so", "http://shop/p\\so"),
        ("/p/so", "http://shop./p/so"),
        ("/p/so", "HTTP://SHOP:8080/p/so#part"),
        ("/p/so", "https://shop/p/so"),
        ("/", "https://shop"),
        ("/p?q=caf%c3%a9", "http://shop/p?q=café"),
        ("/p?q=%7Ea%2fb", "http://shop/p?q=~a%2Fb"),
        ("/p?q=a%20b", "http://shop/p?q=a b"),
        ("/p/%3Cx%3E", "http://shop/p/<x>"),
    ],
)
async def test_a_purge_reaches_every_spelling(target: str, url: str) -> None:
    """As people write it, and as a request for it comes here."""
    stored = Stored(target)
    assert [await stored.read(), await stored.read()] == [1, 1]
    stored.purge(url)
    assert await stored.read() == 2


@pytest.mark.parametrize(
    "url",
    ["http://shop/p/SO", "http://shop/p/so/", "http://shop/p/so?x=1", "http://other/p/so"],
)
async def test_another_uri_is_left(url: str) -> None:
    """What a server may tell apart stays apart."""
    stored = Stored("/p/so")
    await stored.read()
    stored.purge(url)
    assert await stored.read() == 1


async def test_names_and_addresses_of_hosts() -> None:
    """International names as requests have them; addresses in brackets."""
    for host, url in (("xn--caf-dma.test", "http://café.test/p"), ("[::1]", "http://[::1]:1/p")):
        stored = Stored("/p", host)
        await stored.read()
        stored.purge(url)
        assert await stored.read() == 2


@pytest.mark.parametrize(
    "url",
    [
        *("", "shop/p", "ftp://shop/p", "http://", "http:///p", "http://shop/a%2fb"),
        *("http://shop/%00", "http://[::1/p", f"http://{'é' * 90}/p", "http://./"),
    ],
)
def test_what_no_request_can_ask_for_is_refused(url: str) -> None:
    """Nothing would be purged by it."""
    with pytest.raises(BadPurge):
        purging.marks({"url": url}, (None,))


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/p/~me", "/p/%7eme"),
        ("/p/caf%c3%a9", "/p/caf%C3%A9"),
        ("/p/caf%c3%a9", "/p/caf\xc3\xa9"),
        ("/p/so", "http://shop.//p//so"),
        ("/p/so", "x/../p/so"),
    ],
)
@pytest.mark.parametrize("name", ["location", "content-location"])
async def test_what_a_response_names_is_void(target: str, location: str, name: str) -> None:
    """However the upstream writes it."""
    stored = Stored(target)
    await stored.read()
    await stored.trial.request(
        "POST", "/list", upstream=lambda *_: Response(201, {name: location}, b"")
    )
    assert await stored.read() == 2


async def test_a_write_to_another_spelling_is_one() -> None:
    """Escapes in other letters' case are the same resource's."""
    stored = Stored("/p/caf%c3%a9")
    await stored.read()
    await stored.trial.request("PUT", "/p/caf%C3%A9", upstream=lambda *_: Response(204))
    assert await stored.read() == 2


@given(st.text(alphabet="ab%7eE2fFcC3./~? \xe9", max_size=20))
@example("%3%32")
@example("%2%32")
def test_one_way_to_write(target: str) -> None:
    """It is what it was, and stays what it is."""
    once = uris.written(target)
    assert uris.written(once) == once
    assert unquote_to_bytes(once) == unquote_to_bytes(target)


@pytest.mark.parametrize("path", ["\\.;", "a\\..;b", "\\\\.;/x"])
def test_dots_that_a_backslash_hides_are_no_path(path: str) -> None:
    """No request can have such a one: it is refused as one that reads in two ways."""
    with pytest.raises(NoNormalForm):
        uris.read(f"http://shop/{path}")
    made = Request(target=normalised(f"/{path}"))
    assert made.head.problem


@given(st.one_of(st.text(max_size=30), st.text(alphabet="/.;%7eé~? #\\[]@:", max_size=30)))
def test_any_text_is_a_url_or_none(text: str) -> None:
    """What is read is in a form that reads as itself."""
    with suppress(ValueError):
        host, path, query = uris.read(f"http://shop/{text}")
        assert host == "shop"
        assert path.isascii()
        assert path.startswith("/")
        assert query.isascii()
        again = uris.read(f"http://shop{path}?{query}" if query else f"http://shop{path}")
        assert again == (host, path, query)
    with suppress(ValueError):
        uris.read(text)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_both_schemes_are_meant(scheme: str) -> None:
    """Where a proxy ends TLS, clients see another one than the listener."""
    found = purging.marks({"url": f"{scheme}://shop/p?a=1&b=2"}, (None, frozenset({"a"})))
    assert [mark.name for mark in found] == [
        "http://shop/p?a=1",
        "http://shop/p?a=1&b=2",
        "https://shop/p?a=1",
        "https://shop/p?a=1&b=2",
    ]
