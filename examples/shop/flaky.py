"""The recommendations: an unreliable service, which fails in a fixed pattern.

Every third request is answered 503; every seventh gets no answer, the connection closes.
The seventh goes before the third. Everything else is answered.
"""

from itertools import count
from random import Random

from aiohttp import web

from examples.shop.data import PRODUCTS
from examples.shop.serving import serve

_FAILS = 3
_HANGS_UP = 7
_RECOMMENDED = 5


def _recommendations(user: str) -> dict[str, object]:
    """Returns the same products for the same user, in every process."""
    chosen = Random(user).sample(PRODUCTS, _RECOMMENDED)
    return {"user": user, "items": [product["id"] for product in chosen]}


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def application() -> web.Application:
    """Makes the service.

    Returns:
        An application which counts its requests from one.
    """
    numbers = count(1)

    async def recommendations(request: web.Request) -> web.Response:
        number = next(numbers)
        if number % _HANGS_UP == 0:
            _hang_up(request)
        if number % _FAILS == 0:
            return web.json_response({"error": "try again later"}, status=503)
        return web.json_response(_recommendations(request.match_info["user"]))

    app = web.Application()
    app.router.add_get("/recommendations/{user}", recommendations)
    return app


if __name__ == "__main__":
    serve(application(), "flaky")
