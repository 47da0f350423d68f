"""The same answer as the gateway's `/five`, written by hand: aiohttp as server and client."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web
from yarl import URL

_ORIGIN = f"http://127.0.0.1:{sys.argv[1]}"
_CARRIED = ("x-request-id", "traceparent", "accept-language")


class Service:
    """Five calls at once, one answer."""

    async def start(self, _app: web.Application) -> None:
        """Open the pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=10)
        )

    async def stop(self, _app: web.Application) -> None:
        """Close the pool."""
        await self._session.close()

    async def _part(self, target: str, headers: dict[str, str]) -> Any:
        async with self._session.get(
            URL(_ORIGIN + target, encoded=True), headers=headers
        ) as answer:
            if answer.status != 200:  # noqa: PLR2004 - a part is a success
                raise web.HTTPBadGateway
            return orjson.loads(await answer.read())

    async def five(self, request: web.Request) -> web.Response:
        """Answer."""
        user = request.query["user"]
        headers = {name: v for name in _CARRIED if (v := request.headers.get(name))}
        headers["accept"] = "application/json"
        targets = (f"/users?id={user}", f"/orders?user={user}", "/products", "/stock", "/ads")
        profile, orders, products, stock, ads = await asyncio.gather(
            *(self._part(target, headers) for target in targets)
        )
        body = orjson.dumps(
            {
                "name": profile["name"],
                "orders": [{"id": o["id"], "product": o["product"]} for o in orders["items"]],
                "products": [p["title"] for p in products["items"]],
                "stock": stock["items"][0]["stock"],
                "ads": [a["title"] for a in ads["items"][:2]],
            }
        )
        return web.Response(body=body, content_type="application/json")


async def _main() -> None:
    service = Service()
    application = web.Application()
    application.on_startup.append(service.start)
    application.on_cleanup.append(service.stop)
    application.router.add_get("/five", service.five)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_main())
