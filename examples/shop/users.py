"""Users, with a field that no client should see (`birthday`)."""

from __future__ import annotations

from aiohttp import web

from examples.shop import data
from examples.shop.serving import parser, serve


def application(_port: int) -> web.Application:
    """Return the service."""
    users = {user["id"]: user for user in data.users()}

    async def user(request: web.Request) -> web.Response:
        found = users.get(request.match_info["id"])
        if found is None:
            return web.json_response({"error": "no such user"}, status=404)
        return web.json_response(found)

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    result = web.Application()
    result.router.add_get("/users/{id}", user)
    result.router.add_get("/healthz", health)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
