"""Header blocks: what is remembered, and when that is sound."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.http2.errors import ConnectionFault, StreamFault
from extproc.adapters.http2.fields import FieldReader, Fields, literal
from extproc.adapters.http2.limits import Limits
from tests.http2.peers import EMPTIED, REQUEST, as_they_are

NAMES = st.from_regex(rb"[a-z][a-z0-9-]{0,10}", fullmatch=True).filter(
    lambda name: name not in {b"te", b"connection", b"upgrade"}
)
VALUES = st.from_regex(rb"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True)


def reader() -> FieldReader[Fields]:
    """Return a fresh reader."""
    return FieldReader(as_they_are, Limits())


def test_before_the_acknowledgement_blocks_are_read_in_turn() -> None:
    """The same bytes mean something else each time; Envoy's second stream relies on it."""
    encoder, fields = hpack.Encoder(), reader()
    first = encoder.encode([*REQUEST, (b"a", b"1")])
    assert fields.request(first)[-1] == (b"a", b"1")
    indexed = encoder.encode([*REQUEST, (b"a", b"1")])
    assert len(indexed) < len(first), "by index alone"
    assert fields.request(indexed)[-1] == (b"a", b"1")
    newest = literal(REQUEST) + b"\xbe"  # index 62: the newest entry of the table
    encoder.encode([(b"b", b"2")])
    fields.request(literal(REQUEST) + b"\x40\x01b\x012")
    assert fields.request(newest)[-1] == (b"b", b"2")
    fields.request(literal(REQUEST) + b"\x40\x01c\x013")
    assert fields.request(newest)[-1] == (b"c", b"3"), "a remembered block would say b"


def test_afterwards_equal_blocks_are_interpreted_once() -> None:
    """The peer must empty its table first; a block without that is refused."""
    calls = []

    def interpret(fields: Fields) -> int:
        calls.append(fields)
        return len(calls)

    fields = FieldReader(interpret, Limits())
    encoder = hpack.Encoder()
    fields.request(encoder.encode(REQUEST))
    fields.settled()
    encoder.header_table_size = 0
    first = encoder.encode(REQUEST)
    assert first.startswith(EMPTIED)
    assert [fields.request(first), fields.request(first)] == [2, 2]
    later = encoder.encode(REQUEST)
    assert [fields.request(later) for _ in range(5)] == [3] * 5
    assert len(calls) == 3


def test_what_is_remembered_is_bounded() -> None:
    """Blocks that differ each time don't pile up."""
    fields = reader()
    fields.settled()
    fields.request(EMPTIED + literal(REQUEST))
    for number in range(2000):
        fields.request(literal([*REQUEST, (b"n", b"%d" % number)]))
    assert len(fields._known) <= 512


def test_a_malformed_request_is_not_remembered_as_well_formed() -> None:
    """It is refused each time."""
    fields = reader()
    fields.settled()
    bad = EMPTIED + literal(REQUEST[1:])
    for _ in range(3):
        with pytest.raises(StreamFault):
            fields.request(bad)


@given(extra=st.lists(st.tuples(NAMES, VALUES), max_size=10), huffman=..., settled=...)
def test_any_fields_from_the_library_s_encoder(
    *, extra: list[tuple[bytes, bytes]], huffman: bool, settled: bool
) -> None:
    """Read back as they were written, remembered or not."""
    fields, encoder = reader(), hpack.Encoder()
    if settled:
        fields.settled()
        encoder.header_table_size = 0
    wanted = (*REQUEST, *extra)
    for _ in range(3):
        assert fields.request(encoder.encode(wanted, huffman=huffman)) == wanted


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=5))
def test_what_we_write_the_library_reads(pairs: list[tuple[bytes, bytes]]) -> None:
    """Literals of any length (RFC 7541 section 5.1)."""
    decoded = hpack.Decoder(max_header_list_size=1 << 20).decode(literal(pairs), raw=True)
    assert [tuple(pair) for pair in decoded] == pairs


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, 5))
def test_any_block_is_read_or_refused(blocks: list[bytes], settled_at: int) -> None:
    """Only the two declared faults; rubbish never becomes a request by being sent twice."""
    fields = reader()
    for number, block in enumerate(blocks):
        if number == settled_at:
            fields.settled()
        try:
            fields.request(block)
        except (ConnectionFault, StreamFault):
            continue
