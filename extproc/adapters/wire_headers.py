"""Headers and attributes as they came: each is read when somebody asks for it.

A request has a dozen headers, of which most chains read two or three. A serialised HeaderValue
begins with its key, so finding one by its name is a comparison of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from extproc.adapters.messages import common_pb2, received_pb2
from extproc.core.errors import PeerFault
from extproc.core.headers import Headers, gathered
from extproc.core.verdict import ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTRIBUTES_KEY = "envoy.filters.http.ext_proc"
_KEY_TAG = 0x0A  # field 1, a string
_RAW_VALUE_TAG = 0x1A  # field 3, bytes
# What clients choose is remembered only where it is short, so that thousands of it stay small.
LONGEST_REMEMBERED = 256
_COLON = ord(":")
_ONE_BYTE = 0x80  # lengths below this are one byte
_UUID = 36  # characters of the ids that Envoy makes
_REQUEST_ID = b"\n\x0cx-request-id\x1a" + bytes((_UUID,))
_BEFORE_UUID = len(_REQUEST_ID)


def read(raw: bytes) -> tuple[str, str]:
    """Read one serialised HeaderValue; bytes become text one to one (latin-1).

    Raises:
        PeerFault: it is none.
    """
    size = raw[1]
    at = size + 4
    if size < _ONE_BYTE and len(raw) >= at and raw[at - 2] == _RAW_VALUE_TAG:
        length = raw[at - 1]
        if length >= _ONE_BYTE and len(raw) > at:  # two bytes, base 128
            length += (raw[at] - 1) << 7
            at += 1
        if len(raw) == at + length:
            return raw[2 : size + 2].decode("latin-1"), raw[at:].decode("latin-1")
    try:
        header = common_pb2.HeaderValue.FromString(raw)
    except DecodeError as error:
        raise PeerFault("a header is no HeaderValue") from error
    return header.key, header.raw_value.decode("latin-1") or header.value


def _value(raw: bytes, start: int, named: int, end: int) -> str:
    """Return the value of one header.

    Args:
        raw: bytes with a serialised HeaderValue in them.
        start: where it starts.
        named: where its name ends.
        end: where it ends.

    Raises:
        PeerFault: it is none.
        IndexError: the bytes end before.
    """
    if named < end and raw[named] == _RAW_VALUE_TAG:
        length = raw[named + 1]
        at = named + 2
        if length >= _ONE_BYTE:  # two bytes, base 128
            length += (raw[at] - 1) << 7
            at += 1
        if at + length == end:
            return raw[at:end].decode("latin-1")
    return read(raw[start:end])[1]


@lru_cache(maxsize=1024)
def _beginning(name: str) -> bytes | None:
    """Return how the header with this name begins; None for what is no name."""
    if not name or name[0] == ":" or not name.isascii():
        return None
    return common_pb2.HeaderValue(key=name).SerializeToString()


@lru_cache(maxsize=256)
def _beginnings(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return what finds where any of these headers may begin."""
    found = [re.escape(begins) for begins in map(_beginning, names) if begins is not None]
    return re.compile(b"|".join(found) or b"(?!)")


class Received(Headers):
    """The headers of one message, without the pseudo header fields; read one by one.

    Args:
        raw: a serialised HeaderMap.
        first: where in it the first header stands that is no pseudo header field, or one before.
    """

    _complete = False

    def __init__(self, raw: bytes, first: int = 0) -> None:
        self._raw = raw
        self._first = first
        self._values = {}

    def received_all(self, name: str) -> list[str]:
        """Return the values of a name in lower case as they came, in order.

        What is sought might also stand in another header's value: from header to header it is
        looked where one begins.

        Raises:
            PeerFault: the header is none.
        """
        beginning = _beginning(name)
        if beginning is None:
            return []
        raw, at = self._raw, self._first
        sought = raw.find(beginning, at)
        values: list[str] = []
        if sought < 0:
            return values  # most that are asked for are absent
        named = len(beginning)
        try:
            while sought >= 0:
                length = raw[at + 1]
                start = at + 2
                if length >= _ONE_BYTE:
                    if raw[start] < _ONE_BYTE:  # two bytes, base 128
                        length += (raw[start] - 1) << 7
                        start += 1
                    else:
                        start, length = _long(raw, at)
                at = start + length
                if at <= sought:
                    continue
                if start == sought:
                    values.append(_value(raw, start, start + named, at))
                sought = raw.find(beginning, at)
        except IndexError as error:
            raise PeerFault("the headers end in the middle") from error
        return values

    def has_any(self, names: tuple[str, ...]) -> bool:
        """Say whether any of these headers is there: sought in the text as it came."""
        if self._touched and not self._touched.keys().isdisjoint(names):
            return any(self._find(name) for name in names)
        if _beginnings(names).search(self._raw, self._first) is None:
            return False
        return any(self._find(name) for name in names)

    def request_id(self) -> str:
        """Return `x-request-id`, which Envoy puts behind a client's headers."""
        raw = self._raw
        at = raw.rfind(_REQUEST_ID)
        if at >= 0:
            return raw[at + _BEFORE_UUID : at + _BEFORE_UUID + _UUID].decode("latin-1")
        return self.received("x-request-id")

    def _all(self) -> dict[str, list[str]]:
        if not self._complete:
            known = self._values
            pairs = map(read, each(self._raw))
            self._values = gathered(pair for pair in pairs if not pair[0].startswith(":"))
            self._values.update(known)
            self._complete = True
        return self._values


def each(raw: bytes) -> list[bytes]:
    """Cut a serialised HeaderMap into its headers.

    Raises:
        PeerFault: it is none.
    """
    try:
        return list(received_pb2.ReceivedHeaderMap.FromString(raw).headers)
    except DecodeError as error:
        raise PeerFault("the headers can't be read") from error


def end_of(raw: bytes, count: int) -> int:
    """Return where so many headers end; beyond the end where there are fewer."""
    at = 0
    try:
        for _ in range(count):
            length = raw[at + 1]
            at += 2 + length
            if length >= _ONE_BYTE:
                start, length = _long(raw, at - 2 - length)
                at = start + length
    except IndexError:
        return len(raw) + 1
    return at


def _long(raw: bytes, at: int) -> tuple[int, int]:
    """Return where a header starts, and its length of several bytes (base 128, protobuf).

    Raises:
        IndexError: the bytes end before.
    """
    at += 1
    length = shift = 0
    while raw[at] >= _ONE_BYTE:
        length |= (raw[at] & 0x7F) << shift
        shift += 7
        at += 1
    return at + 1, length | raw[at] << shift


def pseudo(raw: Sequence[bytes]) -> dict[str, str]:
    """Return the pseudo header fields among headers.

    Raises:
        PeerFault: something among them is no header.
    """
    try:
        return dict([read(one) for one in raw if one[2] == _COLON and one[0] == _KEY_TAG])
    except IndexError as error:
        raise PeerFault("a header without a name") from error


class Attributes(NamedTuple):
    """What Envoy says of a request beside its headers.

    Attributes:
        route_key: of the route that matched.
        address: of the client.
        all: each by name.
    """

    route_key: str
    address: str
    all: Mapping[str, str]


NONE = Attributes("", "", {})


def attributes(entries: Sequence[bytes]) -> Attributes:
    """Read the attributes that ext_proc's own filter sent.

    Raises:
        PeerFault: they are none.
    """
    for raw in entries:  # one, of this filter
        try:
            found = _attributes(raw)
        except DecodeError as error:
            raise PeerFault("the attributes can't be read") from error
        if found is not None:
            return found
    return NONE


@lru_cache(maxsize=4096)
def _attributes(raw: bytes) -> Attributes | None:
    """Read one entry; those of one connection's requests to one route are the same bytes."""
    entry = received_pb2.ReceivedAttributes.FromString(raw)
    if entry.key != _ATTRIBUTES_KEY:
        return None
    fields = entry.value.fields
    known = {name: fields[name].string_value for name in fields}
    address = address_only(known.get(ADDRESS_ATTRIBUTE, ""))
    return Attributes(known.get(ROUTE_ATTRIBUTE, ""), address, known)


def address_only(address: str) -> str:
    """Return the IP address of Envoy's `ip:port` or `[ip]:port`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] or address
