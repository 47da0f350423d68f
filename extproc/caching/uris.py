"""One name for every way to write a URI: by it responses are invalidated and purged.

A key holds what was sent. Its name is coarser: escapes are in capitals, and none stands for what
needs none (RFC 3986 section 6.2.2). What people and upstreams write is brought to the form that
requests have when they come here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from extproc.caching.parameters import target_with
from extproc.core.paths import NoNormalForm, normalised
from extproc.core.values import is_plain_path

if TYPE_CHECKING:
    from extproc.caching.parameters import Parameters

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]\Z")  # RFC 3986 section 2.3
_SENT = "".join(map(chr, range(0x21, 0x7F)))  # what may stand in a target


def written(target: str) -> str:
    """Return the one way to write a target in which escapes are written in several.

    A `%` that begins none is one itself, else it could begin one with what comes behind it.
    """
    return _ESCAPE.sub(_plain, target) if "%" in target else target


def _plain(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return "%25"
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.match(character) else escape[0].upper()


def named(origin: str, parameters: Parameters, path: str, query: str) -> str:
    """Return the name of a URI, of which only some parameters may count.

    Args:
        origin: scheme and host.
        parameters: that count; None for all.
        path: as requests have it here.
        query: the same; empty for none.
    """
    return origin + written(target_with(parameters, path, query))


def read(url: str, encoding: str = "utf-8") -> tuple[str, str, str]:
    """Return host, path and query of a URL, as a request for it would have them here.

    Args:
        url: an absolute one, as somebody wrote it.
        encoding: of what isn't ASCII in it.

    Raises:
        ValueError: it is none, or no request can have such a path.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    if not host.isascii():
        host = host.encode("idna").decode()
    path = normalised(quote(parts.path or "/", _SENT, encoding))
    if not is_plain_path(path):
        raise NoNormalForm("a dot segment with a parameter")
    return host, path, quote(parts.query, _SENT, encoding)
