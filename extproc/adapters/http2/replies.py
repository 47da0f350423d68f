"""Header blocks of answers, for a client.

Once the peer has acknowledged that the table has size 0 and has emptied its own, each field's
bytes mean the same wherever they stand (RFC 7541 section 2.3 and 4.2). Blocks differ in a date or
a length; most of their fields don't. So a field is cut out by its length, and decoded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError

from extproc.adapters.http2.errors import ConnectionFault, StreamFault, Violation
from extproc.adapters.http2.fields import OVERHEAD, FieldReader, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.adapters.http2.fields import Fields
    from extproc.adapters.http2.limits import Limits

_REMEMBERED = 2048  # fields, and blocks, of one connection
_LONGEST = 256  # of a field that is remembered
_LONGEST_BLOCK = 1024
_INDEXED, _INCREMENTAL, _SIZE_UPDATE = 0x80, 0x40, 0x20


class Head(NamedTuple):
    """A status and its fields, text whose characters are bytes.

    Attributes:
        status: 0 for trailers.
        fields: names in lower case.
        size: of all names and values together.
        coding: the value of `content-encoding`; empty without one.
        names: of the fields, each once.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    size: int = 0
    coding: str = ""
    names: frozenset[str] = frozenset()

    def followed_by(self, more: list[tuple[str, str]]) -> Head:
        """Return a head with further fields behind its own."""
        names = self.names.union([name for name, _ in more])
        return self._replace(fields=(*self.fields, *more), names=names)


class ReplyReader(FieldReader["Head"]):
    """Reads the header blocks that come to a client."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(_interpreted, limits)
        self._single = Decoder(max_header_list_size=limits.header_list)
        self._single.max_allowed_table_size = 0
        self._single.header_table_size = 0
        self._fields: dict[bytes, tuple[str, str]] = {}
        self._blocks: dict[bytes, Head] = {}

    def known_reply(self, block: bytes) -> Head | None:
        """Return what a block that came before was read as, at the beginning of an answer."""
        return self._blocks.get(block)

    def reply(self, block: bytes) -> Head:
        """Read the block that begins an answer.

        Raises:
            ConnectionFault: it can't be decoded.
            StreamFault: the answer is malformed (RFC 9113 section 8.1.1), or too large.
        """
        head = self._read(block)
        if not head.status:
            raise StreamFault(Violation.MALFORMED)
        return head

    def trailers(self, block: bytes) -> tuple[tuple[str, str], ...]:
        """Read the block behind a body.

        Raises:
            ConnectionFault: as for `reply`.
            StreamFault: as for `reply`.
        """
        head = self._read(block)
        if head.status:
            raise StreamFault(Violation.MALFORMED)
        return head.fields

    def _read(self, block: bytes) -> Head:
        known = self._blocks.get(block)
        if known is not None:
            return known
        if not self._alone:
            return _interpreted(self._decoded(block))
        head = _arranged(self._each(block))
        if len(block) <= _LONGEST_BLOCK:
            if len(self._blocks) >= _REMEMBERED:
                self._blocks.clear()
            self._blocks[block] = head
        return head

    def _each(self, block: bytes) -> list[tuple[str, str]]:
        known, found, size = self._fields, [], 0
        for piece in _cut(block):
            field = known.get(piece)
            if field is None:
                field = self._field(piece)
            found.append(field)
            size += len(field[0]) + len(field[1]) + OVERHEAD
        if size > self._limits.header_list:
            raise StreamFault(Violation.FIELDS_TOO_LARGE)
        if len(found) > self._limits.header_fields:
            raise StreamFault(Violation.TOO_MANY_FIELDS)
        return found

    def _field(self, piece: bytes) -> tuple[str, str]:
        try:
            ((name, value),) = self._single.decode(piece, raw=True)
        except OversizedHeaderListError as large:
            raise StreamFault(Violation.FIELDS_TOO_LARGE) from large
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(Violation.COMPRESSION) from error
        field = _text(bytes(name), bytes(value))
        if len(piece) <= _LONGEST:
            if len(self._fields) >= _REMEMBERED:
                self._fields.clear()
            self._fields[piece] = field
        return field


def _cut(block: bytes) -> Iterator[bytes]:
    """Yield the bytes of each field (RFC 7541 section 6).

    Raises:
        ConnectionFault: the block ends inside a field, or changes the table's size inside.
    """
    place, size, begun = 0, len(block), False
    try:
        while place < size:
            start, first = place, block[place]
            if first >= _INDEXED:
                place = _integer_ends(block, place, 0x7F)
            elif first & 0xE0 == _SIZE_UPDATE:
                if begun or first != _SIZE_UPDATE:
                    raise ConnectionFault(Violation.COMPRESSION)
                place += 1
                continue
            else:
                mask = 0x3F if first & _INCREMENTAL else 0x0F
                place = _integer_ends(block, place, mask)
                if not first & mask:
                    place = _string_ends(block, place)
                place = _string_ends(block, place)
            if place > size:
                raise ConnectionFault(Violation.COMPRESSION)
            begun = True
            yield block[start:place]
    except IndexError as error:
        raise ConnectionFault(Violation.COMPRESSION) from error


def _integer_ends(block: bytes, place: int, mask: int) -> int:
    """Return where an integer ends (RFC 7541 section 5.1)."""
    if block[place] & mask != mask:
        return place + 1
    place += 1
    while block[place] & 0x80:
        place += 1
    return place + 1


def _string_ends(block: bytes, place: int) -> int:
    """Return where a string ends (RFC 7541 section 5.2)."""
    size = block[place] & 0x7F
    if size != 0x7F:  # noqa: PLR2004 - it fits into the first byte
        return place + 1 + size
    shift, place = 0, place + 1
    while True:
        byte = block[place]
        size += (byte & 0x7F) << shift
        place += 1
        shift += 7
        if not byte & 0x80:
            return place + size
        if shift > 28:  # noqa: PLR2004 - no frame is as long
            raise ConnectionFault(Violation.COMPRESSION)


def _interpreted(fields: Fields) -> Head:
    return _arranged([_text(name, value) for name, value in fields])


def _text(name: bytes, value: bytes) -> tuple[str, str]:
    """Return a field as text; a malformed one under a name that nothing else can have."""
    if name != b":status" and not is_plain(name, value):
        return "", ""
    return name.decode("ascii"), value.decode("latin-1")


def _arranged(fields: list[tuple[str, str]]) -> Head:
    """Take the status out; refuse what RFC 9113 section 8.2 and 8.3.2 call malformed."""
    status = 0
    if fields and fields[0][0] == ":status":
        text = fields[0][1]
        if len(text) != 3 or not text.isdecimal() or text < "100":  # noqa: PLR2004 - RFC 9110 section 15
            raise StreamFault(Violation.MALFORMED)
        status, fields = int(text), fields[1:]
    for name, _ in fields:
        if not name or name[0] == ":":
            raise StreamFault(Violation.MALFORMED)
    size = sum(len(name) + len(value) for name, value in fields)
    codings = [value for name, value in fields if name == "content-encoding"]
    names = frozenset([name for name, _ in fields])
    return Head(status, tuple(fields), size, ", ".join(codings), names)
