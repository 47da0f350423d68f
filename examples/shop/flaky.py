"""Recommendations: every third request fails, every seventh breaks off."""

from __future__ import annotations

import itertools

from aiohttp import web

from examples.shop import data
from examples.shop.serving import parser, serve

_FAILS, _BREAKS = 3, 7


def application(_port: int) -> web.Application:
    """Return the service."""
    products = data.products()
    numbers = itertools.count(1)

    async def recommendations(request: web.Request) -> web.Response:
        number = next(numbers)
        if number % _BREAKS == 0 and request.transport is not None:
            request.transport.abort()
        if number % _FAILS == 0:
            return web.json_response({"error": "try again"}, status=503)
        start = sum(map(ord, request.match_info["user"])) % 390
        return web.json_response([product["id"] for product in products[start : start + 5]])

    result = web.Application()
    result.router.add_get("/recommendations/{user}", recommendations)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
