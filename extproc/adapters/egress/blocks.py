"""Header blocks of requests: literals that no table remembers, each field written once."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from extproc.adapters.http2.fields import literal
from extproc.core.headers import OF_CONNECTION
from extproc.core.verdict import UPSTREAM_HEADER, WITH_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_TARGET = re.compile(r"/[\x21-\x7e]*\Z")
# A connection's matter in HTTP/2 (RFC 9113 section 8.2.2), said by a pseudo field or by the
# frames (another length is an error of the whole connection), or once, by who is called.
_NOT_SENT = OF_CONNECTION - {"expect", "te"} | {UPSTREAM_HEADER}
_LONGEST = 128  # of a value that is remembered
_ONE_BYTE = 127  # lengths below fit into one (RFC 7541 section 5.1)
_PATH = literal(((b":path", b""),))[:-1]
_LENGTHS = tuple([bytes((size,)) for size in range(_ONE_BYTE)])
_TIMEOUT = "x-envoy-upstream-rq-timeout-ms"


class NotSendable(ValueError):
    """A request can't be written: a field or the target holds what HTTP doesn't allow."""


def block(
    upstream: str,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    size: int,
    seconds: float | None,
    host: str = "",
) -> bytes:
    """Write a request's block.

    Args:
        upstream: its name.
        method: for example `GET`.
        target: path and query.
        headers: in order.
        size: of the body.
        seconds: how long Envoy waits for the answer, and what it tells the upstream
            (`x-envoy-expected-rq-timeout-ms`); None for the upstream's own timeout.
        host: the Host that the upstream gets; by default its name.

    Raises:
        NotSendable: a line break in a value, a blank in the target, and so on.
    """
    if not _TARGET.match(target):
        raise NotSendable("target")
    path = target.encode("ascii")
    short = len(path)
    before, told = _around(upstream, method, host)
    behind = told + _fields(tuple(headers))
    if short < _ONE_BYTE:
        written = before + _LENGTHS[short] + path + behind
    else:
        written = before[: -len(_PATH)] + literal(((b":path", path),)) + behind
    if size:
        written += literal(((b"content-length", str(size).encode("ascii")),))
    if seconds is not None:
        written += _timeout(max(1, round(seconds * 1000)))
    return written


@lru_cache(maxsize=1024)
def _around(upstream: str, method: str, host: str) -> tuple[bytes, bytes]:
    """Write what stands before the path, up to its name, and the field that names the upstream."""
    before = literal(
        (
            (b":method", method.encode("ascii")),
            (b":scheme", b"http"),
            (b":authority", (host or upstream).encode("ascii")),
        )
    )
    place = upstream + WITH_HOST if host else upstream
    told = literal(((UPSTREAM_HEADER.encode("ascii"), place.encode("ascii")),))
    return before + _PATH, told


def _written(name: str, value: str) -> bytes:
    name = name.lower()
    if not _NAME.match(name) or not _VALUE.match(value) or value != value.strip(" \t"):
        raise NotSendable(name)
    if name in _NOT_SENT or (name == "te" and value != "trailers"):  # RFC 9113 section 8.2.2
        return b""
    return literal(((name.encode("ascii"), value.encode("latin-1")),))


_remembered = lru_cache(maxsize=4096)(_written)


@lru_cache(maxsize=256)  # the calls of one exchange mostly have the same
def _fields(headers: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join(
        [
            _remembered(name, value) if len(value) <= _LONGEST else _written(name, value)
            for name, value in headers
        ]
    )


@lru_cache(maxsize=4096)
def _timeout(milliseconds: int) -> bytes:
    return _written(_TIMEOUT, str(milliseconds))
