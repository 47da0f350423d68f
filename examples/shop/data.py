"""The shop's data: always the same, made from a seed."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

_CATEGORIES = {
    "kitchen": (("Chef's Knife", "Kettle", "Cutting Board", "Skillet", "Teapot", "Whisk"), 1500),
    "office": (("Desk Lamp", "Notebook", "Fountain Pen", "Stapler", "Letter Tray"), 900),
    "garden": (("Watering Can", "Secateurs", "Planter", "Hand Trowel", "Bird Feeder"), 1200),
    "travel": (("Backpack", "Suitcase", "Travel Pillow", "Flask", "Packing Cube"), 3500),
    "living": (("Floor Cushion", "Throw", "Candle Holder", "Bookend", "Picture Frame"), 2200),
}
_STYLES = ("Classic", "Compact", "Nordic", "Everyday", "Workshop", "Heritage", "Studio", "Field")
_MATERIALS = ("Oak", "Steel", "Linen", "Ceramic", "Copper", "Walnut", "Wool", "Glass")
_FIRST = ("Alice", "Bob", "Carol", "Dana", "Emre", "Fatima", "Greta", "Hugo", "Ines", "Jonas")
_LAST = ("Adler", "Bauer", "Costa", "Duarte", "Ekström", "Fischer", "García", "Horvat", "Ito")
_CITIES = ("Lisbon", "Oslo", "Graz", "Lyon", "Kraków", "Gent", "Turku", "Malmö", "Porto")
_WORDS = ("sturdy", "a little heavy", "just right", "beautiful", "smaller than it looks", "quiet")
_START = date(2026, 1, 1)
_NAMED = ("alice", "bob", "carol")
_ORDERS_OF_THE_NAMED = 30

Record = dict[str, Any]


def products() -> list[Record]:
    """Return 400 products."""
    dice = random.Random("products")
    made = []
    for number in range(1, 401):
        category = dice.choice(sorted(_CATEGORIES))
        nouns, price = _CATEGORIES[category]
        style, material, noun = dice.choice(_STYLES), dice.choice(_MATERIALS), dice.choice(nouns)
        made.append(
            {
                "id": number,
                "sku": f"SKU-{number:04}",
                "name": f"{style} {material} {noun}",
                "category": category,
                "price": price + dice.randrange(0, 9000, 50),
                "currency": "EUR",
                "description": f"{style} {noun.lower()}, made of {material.lower()}.",
                "stock": dice.randrange(0, 80),
                "rating": round(dice.uniform(2.5, 5.0), 1),
            }
        )
    return made


def users() -> list[Record]:
    """Return 300 users; `alice`, `bob` and `carol` are among them."""
    dice = random.Random("users")
    identifiers = [*_NAMED, *(f"u-{number}" for number in range(1001, 1298))]
    return [_user(dice, identifier) for identifier in identifiers]


def _user(dice: random.Random, identifier: str) -> Record:
    first = identifier.title() if identifier in _NAMED else dice.choice(_FIRST)
    return {
        "id": identifier,
        "name": f"{first} {dice.choice(_LAST)}",
        "email": f"{identifier}@example.com",
        "city": dice.choice(_CITIES),
        "tier": dice.choice(("basic", "plus", "plus", "gold")),
        "birthday": (date(1950, 1, 1) + timedelta(days=dice.randrange(20_000))).isoformat(),
    }


def orders() -> list[Record]:
    """Return 1,500 orders; the first 30 go round the named users."""
    dice = random.Random("orders")
    catalog, buyers = products(), [user["id"] for user in users()]
    made = []
    for number in range(1, 1501):
        lines = [_line(dice, product) for product in dice.sample(catalog, dice.randrange(1, 5))]
        named = number <= _ORDERS_OF_THE_NAMED
        made.append(
            {
                "id": number,
                "user": buyers[number % 3] if named else dice.choice(buyers),
                "items": lines,
                "total": sum(line["price"] * line["quantity"] for line in lines),
                "status": dice.choice(("placed", "packed", "shipped", "delivered")),
                "created_at": (_START + timedelta(days=dice.randrange(300))).isoformat(),
            }
        )
    return made


def _line(dice: random.Random, product: Record) -> Record:
    return {
        "product_id": product["id"],
        "sku": product["sku"],
        "quantity": dice.randrange(1, 4),
        "price": product["price"],
    }


def reviews() -> list[Record]:
    """Return 1,200 reviews."""
    dice = random.Random("reviews")
    names = [user["name"] for user in users()]
    return [
        {
            "product_id": dice.randrange(1, 401),
            "user": dice.choice(names),
            "stars": dice.choice((2, 3, 4, 4, 5, 5)),
            "text": f"It is {dice.choice(_WORDS)} and {dice.choice(_WORDS)}.",
        }
        for _ in range(1200)
    ]
