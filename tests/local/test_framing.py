"""Length-prefixed messages out of bytes that were cut anywhere, and the fields of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.local import statuses
from extproc.adapters.local.framing import Deframer, framed
from extproc.adapters.local.heads import interpret
from extproc.adapters.local.statuses import CallFault, Status

if TYPE_CHECKING:
    from extproc.adapters.http2.fields import Fields

MOST = 1000


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 60))
def test_any_cut_gives_the_same_messages(messages: list[bytes], size: int) -> None:
    """And nothing is held at the end."""
    sent = b"".join(map(framed, messages))
    deframer, found = Deframer(MOST), []
    for at in range(0, len(sent), size):
        found += deframer.feed(sent[at : at + size])
    assert found == messages
    assert deframer.held == 0


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_any_bytes_are_messages_or_one_fault(pieces: list[bytes]) -> None:
    """And never more is held than the largest message."""
    deframer = Deframer(20)
    try:
        for piece in pieces:
            assert all(len(message) <= 20 for message in deframer.feed(piece))
            assert deframer.held < 5 + 20
    except CallFault:
        return


def test_the_largest_message() -> None:
    """Exactly it, and one byte more: refused at its length, before it has come."""
    assert Deframer(MOST).feed(framed(b"x" * MOST)) == [b"x" * MOST]
    with pytest.raises(CallFault) as caught:
        Deframer(MOST).feed(framed(b"x" * (MOST + 1))[:5])
    assert caught.value.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("first", [1, 2, 255])
def test_a_message_that_says_it_is_compressed(first: int) -> None:
    """There was no grpc-encoding, so it can't be."""
    with pytest.raises(CallFault) as caught:
        Deframer(MOST).feed(bytes((first,)) + b"\0\0\0\1x")
    assert caught.value.status is Status.INTERNAL


def fields(**changes: bytes | None) -> Fields:
    """Return a request's fields with some changed."""
    found: dict[bytes, bytes | None] = {
        b":method": b"POST",
        b":path": b"/a.B/C",
        b":scheme": b"http",
        b"content-type": b"application/grpc",
    }
    found |= {name.replace("_", "-").encode(): value for name, value in changes.items()}
    return tuple((name, value) for name, value in found.items() if value is not None)


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto"])
def test_a_request(kind: bytes) -> None:
    """With its method."""
    head = interpret(fields(content_type=kind))
    assert (head.method, head.timeout, head.refusal) == ("/a.B/C", None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"99999999S", 99999999),
        (b"250m", 0.25),
        (b"5u", 5e-6),
        (b"1n", 1e-9),
    ],
)
def test_grpc_timeout(text: bytes, seconds: float) -> None:
    """At most eight digits and a unit."""
    assert interpret(fields(grpc_timeout=text)).timeout == pytest.approx(seconds)


def refusal(**changes: bytes | None) -> bytes:
    """Return the block that refuses a request."""
    block = interpret(fields(**changes)).refusal
    assert block is not None
    return block


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"1s", b"-1S", b"100000000S", b"1.5S", b" 1S"])
def test_grpc_timeout_that_is_none(text: bytes) -> None:
    """Refused, not taken for endless."""
    assert b"grpc-status\x0213" in refusal(grpc_timeout=text)


def test_no_time_at_all() -> None:
    """Attacks D5: `0n` has passed already."""
    assert b"grpc-status\x014" in refusal(grpc_timeout=b"0n")


@pytest.mark.parametrize(
    "kind", [None, b"", b"application/json", b"application/grpc-web", b"application/grpcx"]
)
def test_another_content_type(kind: bytes | None) -> None:
    """415 (gRPC over HTTP/2, "Requests")."""
    assert b"415" in refusal(content_type=kind)


def test_another_http_method() -> None:
    """405."""
    found = dict(fields()) | {b":method": b"GET"}
    head = interpret(tuple(found.items()))
    assert head.refusal == statuses.refusal(405)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"snappy", b"Identity"])
def test_another_encoding(encoding: bytes) -> None:
    """UNIMPLEMENTED, with what is served instead."""
    block = refusal(grpc_encoding=encoding)
    assert b"grpc-status\x0212" in block
    assert b"grpc-accept-encoding\x08identity" in block


@given(st.text(max_size=300))
def test_any_text_is_a_legal_grpc_message(text: str) -> None:
    """Percent-encoded ASCII, whatever an error said."""
    encoded = statuses._encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
