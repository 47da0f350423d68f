"""Orders; two instances run, and each says in a header which it is."""

from __future__ import annotations

from aiohttp import web

from examples.shop import data
from examples.shop.serving import parser, serve


class Orders:
    """The orders' answers."""

    def __init__(self, name: str) -> None:
        self._headers = {"x-instance": name, "server": "orders/1.0"}
        self._orders = {order["id"]: order for order in data.orders()}

    async def of_user(self, request: web.Request) -> web.Response:
        """List a user's orders, newest first: `user` and `limit`."""
        user = request.query.get("user", "")
        found = [order for order in self._orders.values() if order["user"] == user]
        found.sort(key=lambda order: (order["created_at"], order["id"]), reverse=True)
        limit = request.query.get("limit", "20")
        shown = found[: int(limit)] if limit.isdigit() else found
        return self._answer({"items": shown, "total": len(found)})

    async def one(self, request: web.Request) -> web.Response:
        """Return one order."""
        number = request.match_info["id"]
        found = self._orders.get(int(number)) if number.isdigit() else None
        if found is None:
            return self._answer({"error": "no such order"}, 404)
        lines = [{"sku": item["sku"], "quantity": item["quantity"]} for item in found["items"]]
        return self._answer(found | {"lines": lines, "margin_percent": 31})

    async def place(self, request: web.Request) -> web.Response:
        """Take an order."""
        order = await request.json()
        number = max(self._orders) + 1
        self._orders[number] = {"user": "", "items": [], "created_at": ""} | order | {"id": number}
        return self._answer(self._orders[number], 201)

    def _answer(self, value: object, status: int = 200) -> web.Response:
        return web.json_response(value, status=status, headers=self._headers)


def application(name: str) -> web.Application:
    """Return the service."""
    orders = Orders(name)
    result = web.Application()
    result.router.add_get("/orders", orders.of_user)
    result.router.add_get("/v2/orders/{id}", orders.one)
    result.router.add_post("/v2/orders", orders.place)
    return result


def _main() -> None:
    arguments = parser()
    arguments.add_argument("--name", default="a")
    options = arguments.parse_args()
    serve(lambda _port: application(options.name), options.port)


if __name__ == "__main__":
    _main()
