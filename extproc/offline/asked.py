"""Raw requests from what people write: a method and a URL, or text with line feeds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


_LINE_END = re.compile(rb"\r?\n")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_LAST_END = re.compile(rb"\r?\n\Z")


class NotARequest(ValueError):
    """What was given makes no request; the message says why."""


def request_bytes(
    method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None
) -> bytes:
    """Return the bytes that an HTTP client would send.

    Args:
        method: for example `GET`.
        url: a path, or a whole URL, whose host goes into Host; nothing of it is tidied up.
        headers: names and values; one `Host` replaces the URL's.
        body: sent with its length; None for none.

    Raises:
        NotARequest: the URL names no path.
    """
    host, target = _cut(url)
    lines = [f"{method} {target} HTTP/1.1"]
    given = list(headers)
    if not any(name.lower() == "host" for name, _ in given):
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in given]
    if body is not None and not any(name.lower() == "content-length" for name, _ in given):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (body or b"")


def _cut(url: str) -> tuple[str, str]:
    if url.startswith("/"):
        return "localhost", url
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in {"http", "https"}:
        raise NotARequest(f"{url!r} is neither a path nor a URL with http or https")
    cuts = [place for mark in "/?#" if (place := rest.find(mark)) >= 0]
    end = min(cuts, default=len(rest))
    target = rest[end:]
    return rest[:end], target if target.startswith("/") else f"/{target}"


def header(line: str) -> tuple[str, str]:
    """Cut `name: value`.

    Raises:
        NotARequest: there is no colon.
    """
    name, colon, value = line.partition(":")
    if not colon or not name:
        raise NotARequest(f"{line!r} is no header, expected 'name: value'")
    return name, value.strip()


def as_sent(text: bytes) -> bytes:
    """Make a request of text: LF becomes CRLF in its head, which ends with an empty line.

    A body stays as it is written, since `content-length` counts its bytes.
    """
    request = text.lstrip(b"\r\n")
    if not request:
        return text
    head, blank, body = _cut_head(request)
    before = b"\r\n" * text[: len(text) - len(request)].count(b"\n")
    return before + b"\r\n".join(_LINE_END.split(head)) + b"\r\n\r\n" + (body if blank else b"")


def _cut_head(request: bytes) -> tuple[bytes, bool, bytes]:
    """Cut at the first empty line, whichever way its lines end."""
    found = _EMPTY_LINE.search(request)
    if found is None:
        return _LAST_END.sub(b"", request), False, b""
    return request[: found.start()], True, request[found.end() :]
