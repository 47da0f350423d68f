"""The advertisements: a slow service, which takes ``--delay`` seconds for each answer."""

import asyncio

from aiohttp import web

from examples.shop.serving import argument_parser, run

_ADS = (
    {"id": "ad-1", "title": "Free delivery until Sunday", "url": "/offers/free-delivery"},
    {"id": "ad-2", "title": "A tenth off everything in copper", "url": "/offers/copper"},
    {"id": "ad-3", "title": "Two planters for the price of one", "url": "/offers/planters"},
)


def application(delay: float) -> web.Application:
    """Makes the service.

    Args:
        delay: How many seconds an answer takes.

    Returns:
        The application.
    """

    async def ads(_: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        return web.json_response(_ADS)

    app = web.Application()
    app.router.add_get("/ads", ads)
    return app


def main() -> None:
    """Reads the command line and serves."""
    parser = argument_parser("ads")
    parser.add_argument("--delay", type=float, default=0.3, help="seconds an answer takes")
    arguments = parser.parse_args()
    run(application(arguments.delay), arguments.port)


if __name__ == "__main__":
    main()
