"""Outgoing HTTP to places that are no upstreams: key sets, discovery, introspection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from extproc.core.answered import Answered
from extproc.core.errors import UpstreamFault
from extproc.core.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HEADERS = 32 << 10


class HttpFetcher:
    """Fetches documents from places that are no upstreams; never follows a redirect."""

    def __init__(self) -> None:
        self._session = _session(aiohttp.TCPConnector(limit=16))

    async def fetch(
        self,
        url: str,
        *,
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (("accept", "application/json"),),
        body: bytes = b"",
        shared_for: float = 0.0,
        sound: Callable[[bytes], object] | None = None,
    ) -> Answered:
        """Ask; see `Fetcher.fetch`. Nothing is shared here; see `SharedFetcher`."""
        del shared_for, sound
        return await _exchange(self._session, method, url, list(headers), body, seconds, max_bytes)

    def kept(self, url: str) -> Answered | None:
        """Keep nothing."""
        del url
        return None

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADERS,
        max_field_size=_HEADERS,
        skip_auto_headers=("accept", "user-agent"),
        trust_env=False,
    )


async def _exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    body: bytes,
    seconds: float,
    max_bytes: int,
) -> Answered:
    try:
        async with session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            data = await _bounded(response, max_bytes)
            return Answered(response.status, _headers(response), data)
    except TimeoutError as error:
        raise UpstreamFault("timeout", f"no answer within {seconds:.3g} s") from error
    except aiohttp.ClientConnectionError as error:
        raise UpstreamFault("connect", "the connection failed") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise UpstreamFault("protocol", f"no usable answer: {type(error).__name__}") from error


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read a body; what decoding makes of it counts, so a bomb ends here as well."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > max_bytes:
            raise UpstreamFault("too_large", f"the answer is larger than {max_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _headers(response: aiohttp.ClientResponse) -> Headers:
    return Headers(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in response.raw_headers
    )
