"""The shop's data: made from a fixed seed, so every process holds the same."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import NamedTuple, TypedDict

_PRODUCT_COUNT = 400
_USER_COUNT = 300
_ORDER_COUNT = 1500
_REVIEW_COUNT = 1200
_OPENED = datetime(2025, 1, 2, 8, 0, tzinfo=UTC)
_OPEN_FOR_MINUTES = 480 * 24 * 60


class Product(TypedDict):
    """Something the shop sells; the price is in cents."""

    id: int
    sku: str
    name: str
    category: str
    price: int
    currency: str
    description: str
    stock: int
    rating: float


class User(TypedDict):
    """A customer."""

    id: str
    name: str
    email: str
    city: str
    tier: str
    birthday: str


class Item(TypedDict):
    """One line of an order; the price is that of one piece, in cents."""

    product_id: int
    sku: str
    quantity: int
    price: int


class Order(TypedDict):
    """What a customer ordered; the total is in cents."""

    id: int
    user: str
    items: list[Item]
    total: int
    status: str
    created_at: str


class Review(TypedDict):
    """What a customer thinks of a product."""

    product_id: int
    user: str
    stars: int
    text: str


class _Range(NamedTuple):
    """A category: what it sells, what it is made of, and what it costs."""

    nouns: Sequence[str]
    materials: Sequence[str]
    cheapest: int
    dearest: int


_CATEGORIES = {
    "kitchen": _Range(
        ("Chef's Knife", "Saucepan", "Mixing Bowl", "Cutting Board", "Teapot", "Colander"),
        ("Steel", "Copper", "Oak", "Stoneware", "Enamel"),
        900,
        14_900,
    ),
    "garden": _Range(
        ("Watering Can", "Trowel", "Planter", "Pruning Shears", "Bird Feeder", "Lantern"),
        ("Zinc", "Terracotta", "Cedar", "Bamboo", "Cast Iron"),
        700,
        8_900,
    ),
    "office": _Range(
        ("Notebook", "Desk Lamp", "Pen Tray", "Monitor Stand", "File Box", "Footrest"),
        ("Walnut", "Felt", "Aluminium", "Cork", "Leather"),
        400,
        17_900,
    ),
    "outdoor": _Range(
        ("Backpack", "Sleeping Mat", "Water Bottle", "Camp Stove", "Headlamp", "Hammock"),
        ("Canvas", "Ripstop", "Titanium", "Nylon", "Merino"),
        1_200,
        22_900,
    ),
    "home": _Range(
        ("Throw Blanket", "Vase", "Wall Clock", "Candle Holder", "Cushion", "Side Table"),
        ("Linen", "Wool", "Glass", "Brass", "Beech"),
        1_100,
        19_900,
    ),
    "toys": _Range(
        ("Building Blocks", "Puzzle", "Kite", "Spinning Top", "Train Set", "Marble Run"),
        ("Maple", "Cardboard", "Cotton", "Tin", "Birch"),
        600,
        6_900,
    ),
}
_STYLES = (
    "Alder",
    "Brook",
    "Coast",
    "Dune",
    "Ember",
    "Fjord",
    "Grove",
    "Harbour",
    "Juniper",
    "Meadow",
    "Nordic",
    "Summit",
)
_FIRST_NAMES = (
    "Amara", "Anton", "Beatriz", "Chloe", "Daniel", "Elif", "Emma", "Farid", "Greta", "Hana",
    "Ines", "Jonas", "Kofi", "Lena", "Marco", "Mei", "Nadia", "Oscar", "Priya", "Rosa",
    "Samuel", "Tara", "Viktor", "Yuki", "Zoe",
)  # fmt: skip
_LAST_NAMES = (
    "Almeida", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito",
    "Jensen", "Kaya", "Lindqvist", "Moreau", "Novak", "Okafor", "Patel", "Quinn", "Rossi",
    "Schmidt", "Tanaka", "Vargas", "Weber", "Yilmaz", "Zielinski",
)  # fmt: skip
_CITIES = (
    "Amsterdam", "Athens", "Berlin", "Copenhagen", "Dublin", "Hamburg", "Helsinki", "Lisbon",
    "Lyon", "Madrid", "Milan", "Munich", "Oslo", "Porto", "Prague", "Turin", "Vienna", "Warsaw",
)  # fmt: skip
_OPINIONS = {
    1: ("Broke after a week.", "Arrived damaged and smaller than I expected."),
    2: ("Looks nicer in the picture.", "Works, but feels flimsy for the price."),
    3: ("Does what it should.", "Decent, though the finish could be better."),
    4: ("Well made, I would buy it again.", "Very good; delivery took a day longer."),
    5: ("My favourite purchase this year.", "Beautiful, solid and exactly as described."),
}
_NAMED_USERS: tuple[User, ...] = (
    {
        "id": "alice",
        "name": "Alice Moreau",
        "email": "alice@shop.example",
        "city": "Lyon",
        "tier": "gold",
        "birthday": "1988-04-12",
    },
    {
        "id": "bob",
        "name": "Bob Lindqvist",
        "email": "bob@shop.example",
        "city": "Oslo",
        "tier": "silver",
        "birthday": "1979-11-03",
    },
    {
        "id": "carol",
        "name": "Carol Okafor",
        "email": "carol@shop.example",
        "city": "Dublin",
        "tier": "standard",
        "birthday": "1995-07-28",
    },
)


def _product(random: Random, number: int) -> Product:
    category = random.choice(tuple(_CATEGORIES))
    nouns, materials, cheapest, dearest = _CATEGORIES[category]
    style, material, noun = random.choice(_STYLES), random.choice(materials), random.choice(nouns)
    return {
        "id": number,
        "sku": f"SKU-{number:04}",
        "name": f"{style} {material} {noun}",
        "category": category,
        "price": random.randrange(cheapest, dearest + 1, 50) + 45,
        "currency": "EUR",
        "description": f"{noun} in {material.lower()}, from our {style} series.",
        "stock": random.choice((0, random.randint(1, 12), random.randint(13, 250))),
        "rating": round(random.uniform(2.6, 5.0), 1),
    }


def _user(random: Random, number: int) -> User:
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    born = date(1950, 1, 1) + timedelta(days=random.randrange(56 * 365))
    return {
        "id": f"u-{number}",
        "name": f"{first} {last}",
        "email": f"{first}.{last}.{number}@mail.example".lower(),
        "city": random.choice(_CITIES),
        "tier": random.choices(("standard", "silver", "gold"), (6, 3, 1))[0],
        "birthday": born.isoformat(),
    }


def item(product: Product, quantity: int) -> Item:
    """Returns an order's line for some pieces of a product.

    Args:
        product: What is ordered.
        quantity: How many pieces.

    Returns:
        The line, at the product's present price.
    """
    return {
        "product_id": product["id"],
        "sku": product["sku"],
        "quantity": quantity,
        "price": product["price"],
    }


def order_total(items: Sequence[Item]) -> int:
    """Returns what an order's lines cost together, in cents.

    Args:
        items: The order's lines.

    Returns:
        The sum over all pieces.
    """
    return sum(line["quantity"] * line["price"] for line in items)


def _order(random: Random, number: int, user: str, created_at: datetime) -> Order:
    chosen = random.sample(PRODUCTS, random.randint(1, 4))
    items = [item(product, random.choice((1, 1, 1, 2, 3))) for product in chosen]
    statuses = ("placed", "paid", "shipped", "delivered", "returned")
    return {
        "id": number,
        "user": user,
        "items": items,
        "total": order_total(items),
        "status": random.choices(statuses, (1, 2, 3, 12, 1))[0],
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
    }


def _orders(random: Random) -> list[Order]:
    """Makes orders in the order of time; the named users have at least ten each."""
    users = [named["id"] for named in _NAMED_USERS for _ in range(10)]
    users += random.choices([user["id"] for user in USERS], k=_ORDER_COUNT - len(users))
    random.shuffle(users)
    minutes = sorted(random.sample(range(_OPEN_FOR_MINUTES), _ORDER_COUNT))
    return [
        _order(random, number, user, _OPENED + timedelta(minutes=minute))
        for number, (user, minute) in enumerate(zip(users, minutes, strict=True), start=1)
    ]


def _review(random: Random) -> Review:
    stars = random.choices((1, 2, 3, 4, 5), (1, 2, 4, 8, 8))[0]
    return {
        "product_id": random.choice(PRODUCTS)["id"],
        "user": random.choice(USERS)["id"],
        "stars": stars,
        "text": random.choice(_OPINIONS[stars]),
    }


def _products(random: Random) -> list[Product]:
    return [_product(random, number) for number in range(1, _PRODUCT_COUNT + 1)]


def _users(random: Random) -> list[User]:
    others = _USER_COUNT - len(_NAMED_USERS)
    return [*_NAMED_USERS, *(_user(random, 1001 + number) for number in range(others))]


def _reviews_by_product(random: Random) -> dict[int, list[Review]]:
    reviews: dict[int, list[Review]] = defaultdict(list)
    for _ in range(_REVIEW_COUNT):
        review = _review(random)
        reviews[review["product_id"]].append(review)
    return dict(reviews)


PRODUCTS = _products(Random(1))
PRODUCT_BY_ID = {product["id"]: product for product in PRODUCTS}
PRODUCT_BY_SKU = {product["sku"]: product for product in PRODUCTS}
USERS = _users(Random(2))
USER_BY_ID = {user["id"]: user for user in USERS}
ORDERS = _orders(Random(3))
REVIEWS_BY_PRODUCT = _reviews_by_product(Random(4))
