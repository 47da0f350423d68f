"""The normal form of a path, as the compiled Envoy makes it.

The settings are `path_with_escaped_slashes_action: REJECT_REQUEST`, `normalize_path` and
`merge_slashes` of `envoy_config.listener`; the steps and their order were measured on Envoy 1.40.
"""

from __future__ import annotations

import re

_ESCAPED_SLASH = re.compile(r"%(?:2f|5c)", re.IGNORECASE)
_NUL = "%00"
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ENCODED = {character: f"%{ord(character):02X}" for character in '"<>^`{|}'}
_DOTS = frozenset({".", ".."})


class NoNormalForm(ValueError):
    """The path can be read in more than one way, so Envoy refuses it; the message says how."""


def normalised(path: str) -> str:
    """Return the normal form of a path without its query.

    Raises:
        NoNormalForm: it has an escaped slash or NUL, or a fragment.
    """
    if "#" in path:
        raise NoNormalForm("a fragment")
    if _ESCAPED_SLASH.search(path):
        raise NoNormalForm("an escaped slash (%2f or %5c)")
    if _NUL in path:
        raise NoNormalForm("an escaped NUL (%00)")
    segments = "/".join(map(_without_parameters, path.split("/"))).replace("\\", "/").split("/")
    resolved = _resolved([_canonical(segment) for segment in segments[1:]])
    return re.sub("/{2,}", "/", "/" + "/".join(resolved))


def _without_parameters(segment: str) -> str:
    """Take the parameters off `..;x` and `.;x`, which some servers read as `..` and `.`."""
    name = segment.partition(";")[0]
    return name if name in _DOTS else segment


def _canonical(segment: str) -> str:
    """Decode what needs no escape, once, and escape what no path may hold."""
    decoded = _ESCAPE.sub(_plain, segment)
    return "".join(_ENCODED.get(character, character) for character in decoded)


def _plain(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0]


def _resolved(segments: list[str]) -> list[str]:
    """Remove dot segments (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    for place, segment in enumerate(segments):
        if segment not in _DOTS:
            kept.append(segment)
            continue
        if segment == ".." and kept:
            kept.pop()
        if place == len(segments) - 1:
            kept.append("")
    return kept
