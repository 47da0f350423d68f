"""Advertisements: a slow service."""

from __future__ import annotations

import asyncio

from aiohttp import web

from examples.shop.serving import parser, serve

_ADS = [
    {"id": "ad-1", "text": "Tea towels, three for two"},
    {"id": "ad-2", "text": "Free engraving this week"},
    {"id": "ad-3", "text": "New: the garden collection"},
]


def application(delay: float) -> web.Application:
    """Return the service; it answers after `delay` seconds."""

    async def ads(_request: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        return web.json_response(_ADS)

    result = web.Application()
    result.router.add_get("/ads", ads)
    return result


def _main() -> None:
    arguments = parser()
    arguments.add_argument("--delay", type=float, default=0.3)
    options = arguments.parse_args()
    serve(lambda _port: application(options.delay), options.port)


if __name__ == "__main__":
    _main()
