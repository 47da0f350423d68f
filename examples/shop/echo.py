"""The echo: answers with the request as it arrived, and remembers which ones did."""

from aiohttp import web

from examples.shop.serving import serve

_MOST_BYTES = 64 * 1024 * 1024


def _readable(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


class _Echo:
    """Repeats requests and keeps their paths."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    async def repeat(self, request: web.Request) -> web.Response:
        """Answers with the request: nothing decoded, nothing put in order."""
        body = await request.read()
        self._paths.append(request.raw_path)
        return web.json_response(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": [
                    [_readable(name), _readable(value)] for name, value in request.raw_headers
                ],
                "body": _readable(body),
            }
        )

    async def requests(self, _: web.Request) -> web.Response:
        """Answers with the paths seen since the start or the last reset."""
        return web.json_response({"count": len(self._paths), "paths": self._paths})

    async def reset(self, _: web.Request) -> web.Response:
        """Forgets the paths."""
        self._paths.clear()
        return web.json_response({"count": 0})


def application() -> web.Application:
    """Makes the service.

    Returns:
        An application which has seen no request yet.
    """
    echo = _Echo()
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_get("/__requests", echo.requests)
    app.router.add_post("/__reset", echo.reset)
    app.router.add_route("*", "/{path:.*}", echo.repeat)
    return app


if __name__ == "__main__":
    serve(application(), "echo")
