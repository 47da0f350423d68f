"""The users service: who the shop's customers are."""

from aiohttp import web

from examples.shop.data import USER_BY_ID, USERS
from examples.shop.serving import not_found, serve


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "users": len(USERS)})


async def _one(request: web.Request) -> web.Response:
    user = USER_BY_ID.get(request.match_info["id"])
    return not_found("user") if user is None else web.json_response(user)


def application() -> web.Application:
    """Makes the service.

    Returns:
        The application.
    """
    app = web.Application()
    app.router.add_get("/healthz", _health)
    app.router.add_get("/users/{id}", _one)
    return app


if __name__ == "__main__":
    serve(application(), "users")
