"""Products and reviews; each response carries how many were served, to show what a cache saves."""

from __future__ import annotations

import itertools

from aiohttp import web

from examples.shop import data
from examples.shop.serving import parser, serve


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


class Catalog:
    """The catalogue's answers."""

    def __init__(self) -> None:
        self._products = {product["id"]: product for product in data.products()}
        self._reviews = data.reviews()
        self._served = itertools.count(1)

    async def products(self, request: web.Request) -> web.Response:
        """List products: `ids`, or `category`, `limit` and `offset`."""
        query = request.query
        if "ids" in query:
            wanted = [int(text) for text in query["ids"].split(",") if text.isdigit()]
            found = [self._products[number] for number in wanted if number in self._products]
        else:
            found = [
                product
                for product in self._products.values()
                if query.get("category", product["category"]) == product["category"]
            ]
            offset = _number(query.get("offset"), 0)
            found = found[offset : offset + _number(query.get("limit"), 20)]
        return self._answer(found)

    async def product(self, request: web.Request) -> web.Response:
        """Return one product."""
        found = self._products.get(_number(request.match_info["id"], 0))
        if found is None:
            return self._answer({"error": "no such product"}, 404)
        return self._answer(found)

    async def reviews(self, request: web.Request) -> web.Response:
        """List a product's reviews."""
        number = _number(request.match_info["id"], 0)
        return self._answer([r for r in self._reviews if r["product_id"] == number])

    def _answer(self, value: object, status: int = 200) -> web.Response:
        headers = {"x-served": str(next(self._served))}
        return web.json_response(value, status=status, headers=headers)


def application(_port: int) -> web.Application:
    """Return the service."""
    catalog = Catalog()
    result = web.Application()
    result.router.add_get("/products", catalog.products)
    result.router.add_get("/products/{id}", catalog.product)
    result.router.add_get("/products/{id}/reviews", catalog.reviews)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
