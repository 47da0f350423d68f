"""The price list: an old service, which speaks XML."""

from xml.etree.ElementTree import Element, SubElement, tostring

from aiohttp import web

from examples.shop.data import PRODUCT_BY_SKU, Product
from examples.shop.serving import serve


def _xml(root: Element, status: int = 200) -> web.Response:
    body = tostring(root, encoding="utf-8", xml_declaration=True)
    return web.Response(body=body, status=status, content_type="application/xml", charset="utf-8")


def _price(product: Product) -> Element:
    root = Element("price", sku=product["sku"])
    SubElement(root, "name").text = product["name"]
    amount = SubElement(root, "amount", currency=product["currency"])
    amount.text = f"{product['price'] // 100}.{product['price'] % 100:02}"
    SubElement(root, "taxIncluded").text = "true"
    return root


async def _one(request: web.Request) -> web.Response:
    product = PRODUCT_BY_SKU.get(request.match_info["sku"])
    if product is None:
        error = Element("error", code="unknown-sku")
        return _xml(error, status=404)
    return _xml(_price(product))


def application() -> web.Application:
    """Makes the service.

    Returns:
        The application.
    """
    app = web.Application()
    app.router.add_get("/prices/{sku}", _one)
    return app


if __name__ == "__main__":
    serve(application(), "legacy")
