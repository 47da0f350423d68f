"""Prices, as an old service says them: XML."""

from __future__ import annotations

from xml.sax.saxutils import escape

from aiohttp import web

from examples.shop import data
from examples.shop.serving import parser, serve

_DOCUMENT = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<price xmlns="urn:shop:prices"><sku>{sku}</sku>'
    '<amount currency="{currency}">{price}</amount></price>\n'
)


def application(_port: int) -> web.Application:
    """Return the service."""
    products = {product["sku"]: product for product in data.products()}

    async def price(request: web.Request) -> web.Response:
        found = products.get(request.match_info["sku"])
        if found is None:
            return web.Response(status=404, text="<error/>", content_type="application/xml")
        text = _DOCUMENT.format_map({name: escape(str(value)) for name, value in found.items()})
        return web.Response(text=text, content_type="application/xml")

    result = web.Application()
    result.router.add_get("/prices/{sku}", price)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
