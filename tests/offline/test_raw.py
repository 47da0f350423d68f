"""Any bytes are a message or a rejection; what is accepted is in one form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.core.paths import NoNormalForm, normalised
from extproc.offline.asked import NotARequest, as_sent, header, request_bytes
from extproc.offline.edge import Arrival, Edge, arrive
from extproc.offline.raw import Message, Rejected, read

EDGE = Edge("http", 0, (re.compile("x[^a-z0-9]user"),))
_PIECES = st.sampled_from(
    [
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        ";",
        "a",
        "%61",
        "%2f",
        "\\",
        "%zz",
        "%",
        "%3b",
        "~",
        '"',
    ]
)
PATHS = st.lists(_PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces))
_WORDS = st.sampled_from(
    [
        *(b"GET", b"POST", b" ", b"/", b"/a", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b"x_y: 1"),
        *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"5", b"hello", b"0", b"\t", b"*"),
        *(b"Host: a", b"\x00"),
    ]
)
NEARLY = st.lists(_WORDS | st.binary(max_size=3), max_size=24).map(b"".join)


@given(st.binary(max_size=200) | NEARLY)
def test_any_bytes_give_a_message_or_a_rejection(data: bytes) -> None:
    """And what comes behind a message is told apart from it."""
    read_as = read(data)
    if isinstance(read_as, Rejected):
        assert 400 <= read_as.status < 500
        return
    assert isinstance(read_as, Message)
    assert data.endswith(read_as.rest)
    for name, value in read_as.fields:
        assert re.fullmatch(r"[!#$%&'*+\-.^`|~0-9a-z]+", name)
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value)


@given(st.binary(max_size=200) | NEARLY)
def test_any_message_arrives_or_is_rejected(data: bytes) -> None:
    """With a path in its normal form, and without what clients may not set."""
    message = read(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-User: evil\r\nX.User: evil\r\n" + data + b"\r\n\r\n"
    )
    if isinstance(message, Rejected):
        return
    arrival = arrive(message, EDGE, "192.0.2.1", "id")
    if isinstance(arrival, Arrival):
        assert arrival.path == normalised(arrival.path)
        assert not {"x-user", "x.user", "connection"} & {name for name, _ in arrival.fields}


@given(PATHS)
def test_a_normal_form_has_no_dots_and_no_empty_segment(path: str) -> None:
    """And is normal again, unless a dot segment was written with an escape and a parameter."""
    try:
        once = normalised(path)
    except NoNormalForm:
        return
    assert once.startswith("/")
    assert "//" not in once
    assert not {".", ".."} & set(once.split("/"))
    assert "\\" not in once
    if not re.search(r"/\.\.?;", once):
        assert normalised(once) == once


@given(st.binary(max_size=80))
def test_what_is_made_to_be_sent_stays_so(text: bytes) -> None:
    """Line ends are put right once."""
    assert as_sent(as_sent(text)) == as_sent(text)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (b"GET / HTTP/1.1\nHost: a\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET / HTTP/1.1\nHost: a", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"POST / HTTP/1.1\nHost: a\n\n{\n}", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n{\n}"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx"),
        (b"\nGET / HTTP/1.1\nHost: a\n\n", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
def test_line_feeds_become_line_ends_in_the_head(text: bytes, sent: bytes) -> None:
    """A body stays as it is: its length was counted."""
    assert as_sent(text) == sent


def test_a_method_and_a_url_make_a_request() -> None:
    """Nothing of the URL is tidied up."""
    raw = request_bytes("POST", "http://shop:80//a/../b?q", [header("X: y: z")], b"hi")
    assert raw == (
        b"POST //a/../b?q HTTP/1.1\r\nHost: shop:80\r\nX: y: z\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert (
        request_bytes("GET", "/a", [("host", "b")], None) == b"GET /a HTTP/1.1\r\nhost: b\r\n\r\n"
    )
    assert request_bytes("GET", "http://a?x", [], None).startswith(
        b"GET /?x HTTP/1.1\r\nHost: a\r\n"
    )
    for url in ("a/b", "ftp://a/b", ""):
        with pytest.raises(NotARequest):
            request_bytes("GET", url, [], None)
    with pytest.raises(NotARequest):
        header("no colon")


@pytest.mark.parametrize(
    ("forwarded", "trusted", "address"),
    [
        ([], 0, "192.0.2.1"),
        (["203.0.113.5"], 0, "192.0.2.1"),
        (["198.51.100.7, 203.0.113.5"], 1, "203.0.113.5"),
        (["198.51.100.7", "203.0.113.5"], 2, "198.51.100.7"),
        (["203.0.113.5"], 2, "192.0.2.1"),
    ],
)
def test_only_trusted_proxies_say_where_a_client_is(
    forwarded: list[str], trusted: int, address: str
) -> None:
    """H9: what a client writes into x-forwarded-for is not believed."""
    fields = tuple(("x-forwarded-for", value) for value in forwarded)
    message = Message("GET", "/", (("host", "a"), *fields))
    arrival = arrive(message, Edge("http", trusted, ()), "192.0.2.1", "id")
    assert isinstance(arrival, Arrival)
    assert arrival.address == address
