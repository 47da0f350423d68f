"""The orders service: what customers bought, in an old and a new form of the API.

Two instances run side by side; ``--name`` tells them apart in ``x-instance``. New orders
live in the memory of the instance which took them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from examples.shop.data import ORDERS, PRODUCT_BY_ID, Item, Order, item, order_total
from examples.shop.serving import argument_parser, bad_request, not_found, query_number, run

_PAGE = 20
_MOST_PIECES = 1000


def _line(wanted: Any) -> Item:
    """Reads one ``{"product_id": .., "quantity": ..}`` of a new order."""
    if not isinstance(wanted, Mapping):
        raise bad_request("an item must be an object")
    number, quantity = wanted.get("product_id"), wanted.get("quantity", 1)
    if type(number) is not int or number not in PRODUCT_BY_ID:
        raise bad_request("product_id must be a product's id")
    if type(quantity) is not int or not 1 <= quantity <= _MOST_PIECES:
        raise bad_request(f"quantity must be a whole number from 1 to {_MOST_PIECES}")
    return item(PRODUCT_BY_ID[number], quantity)


async def _read_body(request: web.Request) -> tuple[str, list[Item]]:
    """Reads who orders, and what."""
    try:
        body = await request.json()
    except ValueError as error:
        raise bad_request("the body must be JSON") from error
    if not isinstance(body, Mapping) or not isinstance(body.get("user"), str):
        raise bad_request("the body must be an object with a user")
    wanted = body.get("items")
    if not isinstance(wanted, list) or not wanted:
        raise bad_request("items must be a list which is not empty")
    return body["user"], [_line(one) for one in wanted]


class _Orders:
    """The orders one instance knows."""

    def __init__(self) -> None:
        self._by_id = {order["id"]: order for order in ORDERS}

    def _add(self, user: str, items: list[Item]) -> Order:
        order: Order = {
            "id": max(self._by_id) + 1,
            "user": user,
            "items": items,
            "total": order_total(items),
            "status": "placed",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self._by_id[order["id"]] = order
        return order

    async def list(self, request: web.Request) -> web.Response:
        """Answers with orders, the newest first; ``total`` counts those past the limit too."""
        user = request.query.get("user")
        found = [order for order in self._by_id.values() if user in {None, order["user"]}]
        newest = found[::-1][: query_number(request, "limit", _PAGE)]
        return web.json_response({"items": newest, "total": len(found)})

    async def one(self, request: web.Request) -> web.Response:
        """Answers with one order."""
        order = self._by_id.get(int(request.match_info["id"]))
        return not_found("order") if order is None else web.json_response(order)

    async def create(self, request: web.Request) -> web.Response:
        """Takes a new order."""
        order = self._add(*await _read_body(request))
        where = {"location": f"/v2/orders/{order['id']}"}
        return web.json_response(order, status=201, headers=where)


def application(name: str) -> web.Application:
    """Makes the service.

    Args:
        name: What this instance calls itself in ``x-instance``.

    Returns:
        An application with orders of its own.
    """
    orders = _Orders()

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-instance"] = name
        response.headers["server"] = "orders/1.0"

    app = web.Application()
    app.on_response_prepare.append(sign)
    app.router.add_get("/orders", orders.list)
    app.router.add_get(r"/v2/orders/{id:\d{1,9}}", orders.one)
    app.router.add_post("/v2/orders", orders.create)
    return app


def main() -> None:
    """Reads the command line and serves."""
    parser = argument_parser("orders")
    parser.add_argument("--name", default="a", help="what this instance calls itself")
    arguments = parser.parse_args()
    run(application(arguments.name), arguments.port)


if __name__ == "__main__":
    main()
