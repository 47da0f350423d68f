"""Header blocks to fields: HPACK by the `hpack` library, remembered once that is sound.

We announce a header table of size 0. Until the peer has acknowledged that and emptied its table,
a block's meaning depends on the blocks before it, and each is decoded in turn. From then on it
depends on its bytes alone, so equal blocks are decoded once (RFC 7541 section 4.2).
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError

from extproc.adapters.http2.errors import ConnectionFault, StreamFault, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from extproc.adapters.http2.limits import Limits

T = TypeVar("T")
Fields = tuple[tuple[bytes, bytes], ...]

_REMEMBERED = 512  # blocks per connection
_LONGEST = 1024  # of a block that is remembered
_AT_ALL = 4  # times what is announced, for a list that is decoded to be refused
OVERHEAD = 32  # of each field in the size of a list, RFC 9113 section 6.5.2
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(rb"[^\x00\r\n]*\Z")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_NEEDED = frozenset({b":method", b":scheme", b":path"})
# RFC 9113 section 8.2.2; `te` may say "trailers" alone.
_OF_A_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


class FieldReader(Generic[T]):
    """Reads the header blocks of one connection.

    Attributes:
        known: gives what was made of an equal block; None for one that must be read.
    """

    def __init__(self, interpret: Callable[[Fields], T], limits: Limits) -> None:
        self._interpret = interpret
        self._limits = limits
        # A list that is too large for its stream is decoded all the same: the tables must agree.
        self._decoder = Decoder(max_header_list_size=_AT_ALL * limits.header_list)
        self._known: dict[bytes, T] = {}
        self._alone = False
        self.known = self._known.get

    def settled(self) -> None:
        """Take note that the peer acknowledged our settings."""
        self._decoder.max_allowed_table_size = 0

    def request(self, block: bytes) -> T:
        """Read a request's block.

        Raises:
            ConnectionFault: it can't be decoded, or is larger by far than we announced.
            StreamFault: the request is malformed (RFC 9113 section 8.1.1), or too large.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        head = self._interpret(_checked(self._decoded(block)))
        if self._alone and len(block) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = head
        return head

    def pass_over(self, block: bytes) -> None:
        """Read a block whose fields nobody wants; the table must see it all the same.

        Raises:
            ConnectionFault: as for `request`.
        """
        if block not in self._known:
            with suppress(StreamFault):
                self._decoded(block)

    def _decoded(self, block: bytes) -> Fields:
        try:
            fields = tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as large:
            raise ConnectionFault(Violation.FIELDS_TOO_LARGE) from large
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(Violation.COMPRESSION) from error
        self._alone = self._decoder.max_allowed_table_size == self._decoder.header_table_size == 0
        if len(fields) > self._limits.header_fields:
            raise StreamFault(Violation.TOO_MANY_FIELDS)
        size = sum(len(name) + len(value) + OVERHEAD for name, value in fields)
        if size > self._limits.header_list:
            raise StreamFault(Violation.FIELDS_TOO_LARGE)
        return tuple((bytes(field[0]), bytes(field[1])) for field in fields)


def _checked(fields: Fields) -> Fields:
    """Refuse what RFC 9113 section 8.2 and 8.3 call malformed."""
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    wrong = (
        any(name.startswith(b":") for name, _ in fields[len(pseudo) :])
        or len(set(pseudo)) != len(pseudo)
        or not _NEEDED.issubset(pseudo)
        or not _PSEUDO.issuperset(pseudo)
        or any(not is_plain(name, value) for name, value in fields)
    )
    if wrong:
        raise StreamFault(Violation.MALFORMED)
    return fields


def is_plain(name: bytes, value: bytes) -> bool:
    """Say whether a field is well formed and belongs to a message, not to a connection."""
    if name == b"te":
        return value == b"trailers"
    if name == b":path" and not value:
        return False
    return (
        name not in _OF_A_CONNECTION
        and bool(_NAME.match(name))
        and bool(_VALUE.match(value))
        and value.strip(b" \t") == value
    )


def literal(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a block of literals that no table remembers (RFC 7541 section 6.2.2)."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    """Write a string as it is, after its length (RFC 7541 section 5.1 and 5.2)."""
    size = len(text)
    if size < _ONE_BYTE:
        return bytes((size,)) + text
    rest, more = size - _ONE_BYTE, bytearray((_ONE_BYTE,))
    while rest >= 128:  # noqa: PLR2004 - seven bits in each byte, RFC 7541 section 5.1
        more.append(rest & 0x7F | 0x80)
        rest >>= 7
    more.append(rest)
    return bytes(more) + text


_ONE_BYTE = 127
