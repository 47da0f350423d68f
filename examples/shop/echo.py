"""Answers with what it was sent, byte for byte; what tests ask about what reached an upstream."""

from __future__ import annotations

from aiohttp import web

from examples.shop.serving import parser, serve


class Echo:
    """Remembers and repeats."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    async def any(self, request: web.Request) -> web.Response:
        """Repeat a request; `?status=` chooses the status."""
        self._paths.append(f"{request.method} {request.raw_path}")
        body = await request.read()
        headers = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in request.raw_headers]
        status = request.query.get("status", "200")
        return web.json_response(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": headers,
                "body": body.decode(errors="replace"),
            },
            status=int(status) if status.isdigit() else 200,
        )

    async def requests(self, _request: web.Request) -> web.Response:
        """Return what came since the last reset."""
        return web.json_response({"count": len(self._paths), "paths": self._paths})

    async def reset(self, _request: web.Request) -> web.Response:
        """Forget what came."""
        self._paths = []
        return web.json_response({})


def application(_port: int) -> web.Application:
    """Return the service."""
    echo = Echo()
    result = web.Application(client_max_size=64 << 20)
    result.router.add_get("/__requests", echo.requests)
    result.router.add_post("/__reset", echo.reset)
    result.router.add_route("*", "/{rest:.*}", echo.any)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
