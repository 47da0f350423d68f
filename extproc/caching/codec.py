"""Stored responses as bytes: versioned, self-checking, and bound to their key.

What comes out of a shared store may be anything: truncated, of another version, put there under
another key. It is read as data, never as code, and whatever doesn't fit is no stored response.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from extproc.caching.entry import Entry

_MAGIC = b"xpc\x03"  # and the version of this form
_DIGEST = 16
_LENGTH = 4
_PAIR = 2
_PART = 3
_NUMBERS = 6


def written(entry: Entry, name: str) -> bytes:
    """Write a stored response.

    Args:
        entry: the response.
        name: of its key; it is read back under no other.
    """
    head = orjson.dumps(
        [
            entry.status,
            entry.headers,
            [
                entry.came,
                entry.age,
                entry.lifetime,
                entry.while_revalidate,
                entry.if_error,
                entry.remote,
            ],
            [entry.validate, entry.never_stale],
            entry.selecting,
            entry.uri,
            entry.tags,
            entry.part,
            entry.generation,
        ]
    )
    content = len(head).to_bytes(_LENGTH, "big") + head + entry.body
    return _MAGIC + _check(content, name) + content


def _check(content: bytes, name: str) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST, key=name.encode()[:64]).digest()


def read(data: bytes, name: str, largest: int) -> Entry | None:
    """Read what a store gave under a name; None for whatever isn't a response stored under it."""
    begins = len(_MAGIC) + _DIGEST
    if not data.startswith(_MAGIC) or not begins + _LENGTH <= len(data) <= largest:
        return None
    content = data[begins:]
    if _check(content, name) != data[len(_MAGIC) : begins]:
        return None
    try:
        size = int.from_bytes(content[:_LENGTH], "big")
        return _entry(orjson.loads(content[_LENGTH : _LENGTH + size]), content[_LENGTH + size :])
    except (ValueError, TypeError, KeyError):
        return None


def _entry(head: Any, body: bytes) -> Entry:
    status, headers, numbers, flags, selecting, uri, tags, part, generation = head
    if not isinstance(status, int) or len(numbers) != _NUMBERS or len(flags) != _PAIR:
        raise TypeError(head)
    came, age, lifetime, while_revalidate, if_error, stamp = numbers
    return Entry(
        status,
        tuple([(_text(name), _text(value)) for name, value in headers]),
        body,
        float(came),
        float(age),
        float(lifetime),
        bool(flags[0]),
        bool(flags[1]),
        float(while_revalidate),
        float(if_error),
        tuple([(_text(name), None if v is None else _text(v)) for name, v in selecting]),
        _text(uri),
        tuple(map(_text, tags)),
        _part(part),
        int(stamp),
        generation=_text(generation),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _part(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    if len(value) != _PART:
        raise TypeError(value)
    first, last, length = map(int, value)
    return first, last, length
