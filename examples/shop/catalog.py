"""The catalog: products and what customers think of them.

Every answer carries ``x-served``, a count which goes up with each request this process
saw. An answer with an old count came from a cache.
"""

from itertools import count

from aiohttp import web

from examples.shop.data import PRODUCT_BY_ID, PRODUCTS, REVIEWS_BY_PRODUCT, Product
from examples.shop.serving import bad_request, not_found, query_number, serve

_PAGE = 20


def _with_ids(text: str) -> list[Product]:
    """Returns the products named by ``1,2,3``, in that order; unknown ones are left out."""
    try:
        ids = [int(number) for number in text.split(",") if number]
    except ValueError as error:
        raise bad_request("ids must be whole numbers with commas between them") from error
    return [PRODUCT_BY_ID[number] for number in ids if number in PRODUCT_BY_ID]


def _page(request: web.Request) -> list[Product]:
    category = request.query.get("category")
    found = [product for product in PRODUCTS if category in {None, product["category"]}]
    start = query_number(request, "offset", 0)
    return found[start : start + query_number(request, "limit", _PAGE)]


async def _list(request: web.Request) -> web.Response:
    ids = request.query.get("ids")
    return web.json_response(_page(request) if ids is None else _with_ids(ids))


async def _one(request: web.Request) -> web.Response:
    product = PRODUCT_BY_ID.get(int(request.match_info["id"]))
    return not_found("product") if product is None else web.json_response(product)


async def _reviews(request: web.Request) -> web.Response:
    number = int(request.match_info["id"])
    if number not in PRODUCT_BY_ID:
        return not_found("product")
    return web.json_response(REVIEWS_BY_PRODUCT.get(number, []))


async def _nothing(_: web.Request) -> web.Response:
    return not_found("page")


def application() -> web.Application:
    """Makes the service.

    Returns:
        An application with a count of its own.
    """
    served = count(1)

    async def count_response(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-served"] = str(next(served))

    app = web.Application()
    app.on_response_prepare.append(count_response)
    app.router.add_get("/products", _list)
    app.router.add_get(r"/products/{id:\d{1,9}}", _one)
    app.router.add_get(r"/products/{id:\d{1,9}}/reviews", _reviews)
    app.router.add_get("/{path:.*}", _nothing)
    return app


if __name__ == "__main__":
    serve(application(), "catalog")
