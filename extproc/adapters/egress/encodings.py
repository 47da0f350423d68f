"""Content codings (RFC 9110 section 8.4.1): not asked for; what comes all the same is bounded."""

from __future__ import annotations

import zlib

from extproc.core.errors import UpstreamFault

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's `wbits`


def decoded(coding: str, body: bytes, most: int) -> bytes:
    """Undo one content coding.

    Args:
        coding: the value of `content-encoding`.
        body: as it came.
        most: bytes that may come of it.

    Raises:
        UpstreamFault: another coding or more than one, a broken one, or too much.
    """
    name = coding.strip().lower()
    if name in {"", "identity"} or not body:  # a 204 and a 304 may name a coding too
        return body
    window = _WINDOWS.get(name)
    if window is None:
        raise UpstreamFault("protocol", "the answer has a content coding that wasn't asked for")
    machine = zlib.decompressobj(window)
    try:
        result = machine.decompress(body, most + 1)
    except zlib.error as error:
        raise UpstreamFault("protocol", "the answer's content coding is broken") from error
    if len(result) > most:
        raise UpstreamFault("too_large", f"the answer is larger than {most} bytes")
    if not machine.eof or machine.unused_data:
        raise UpstreamFault("protocol", "the answer's content coding is broken")
    return result
