"""What to try against the shop: printed as curl commands, and checked one by one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as plain values."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Try:
    """One thing to try.

    Attributes:
        title: what it shows.
        path: path and query.
        right: whether an answer is right.
        user: whose token goes along; empty for none.
        client: the token's `client_id`.
        headers: further headers.
        body: JSON to POST.
    """

    title: str
    path: str
    right: Callable[[Answer], bool]
    user: str = ""
    client: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def command(self, gateway: str, issuer: str) -> str:
        """Return the curl command that does the same."""
        parts = ["curl -si"]
        if self.user:
            url = f"{issuer}/token?{self.token_query()}"
            parts.append(f"-H \"Authorization: Bearer $(curl -s '{url}')\"")
        parts += [f"-H '{name}: {value}'" for name, value in self.headers.items()]
        if self.body is not None:
            parts.append(f"-H 'content-type: application/json' -d '{json.dumps(self.body)}'")
        return " ".join([*parts, f"'{gateway}{self.path}'"])

    def token_query(self) -> str:
        """Return what to ask the issuer for."""
        client = f"&client_id={self.client}" if self.client else ""
        return f"user={self.user}{client}&raw=1"

    def run(self, gateway: str, issuer: str) -> Answer:
        """Do it."""
        headers = dict(self.headers)
        if self.user:
            token = fetch(f"{issuer}/token?{self.token_query()}").body.decode()
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if self.body is not None:
            headers["content-type"] = "application/json"
            data = json.dumps(self.body).encode()
        return fetch(f"{gateway}{self.path}", headers, data)


def fetch(url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> Answer:
    """Make one request; an error status is an answer."""
    request = urllib.request.Request(url, data, dict(headers or {}))  # noqa: S310 - our own URLs
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def _is_problem(answer: Answer, status: int, reason: str) -> bool:
    return answer.status == status and answer.json["type"] == f"urn:extproc:{reason}"


def _sent(answer: Answer) -> dict[str, str]:
    """Return the headers that the echo upstream saw."""
    return {name.lower(): value for name, value in answer.json["headers"]}


TRIES = (
    Try(
        "the catalogue: a miss, stored for 30 s",
        "/products?limit=2",
        lambda a: a.status == 200 and len(a.json) == 2 and "stored" in a.headers["cache-status"],
    ),
    Try(
        "again: a hit, the upstream isn't asked",
        "/products?limit=2",
        lambda a: a.status == 200 and "extproc; hit" in a.headers["cache-status"],
    ),
    Try(
        "an order needs a token",
        "/orders/7",
        lambda a: (
            _is_problem(a, 401, "unauthenticated") and "Bearer" in a.headers["www-authenticate"]
        ),
    ),
    Try(
        "Alice may read it, in the shape that clients get",
        "/orders/7",
        lambda a: (
            a.status == 200
            and sorted(a.json) == ["id", "lines", "status", "total"]
            and a.headers["x-served-by"] == "gateway"
            and a.headers["server"] is None
        ),
        user="alice",
    ),
    Try(
        "Carol is suspended, and the policy says so",
        "/orders/7",
        lambda a: _is_problem(a, 403, "suspended"),
        user="carol",
    ),
    Try(
        "Alice places an order, in her own words",
        "/orders",
        lambda a: a.status == 201 and a.json["items"] == [{"sku": "SKU-0001", "quantity": 2}],
        user="alice",
        body={"basket": [{"sku": "SKU-0001", "n": 2}]},
    ),
    Try(
        "Bob may only read",
        "/orders",
        lambda a: _is_problem(a, 403, "no_rule_allows"),
        user="bob",
        body={"basket": []},
    ),
    Try(
        "one answer out of five services, products joined in; the slow one is left out and named",
        "/home",
        lambda a: (
            a.status == 200
            and len(a.json["orders"]) == 5
            and all(line["product"] for order in a.json["orders"] for line in order["lines"])
            and "ads" in a.headers["x-gateway-partial"]
            and "birthday" not in a.json
        ),
        user="alice",
    ),
    Try(
        "a smaller one for phones, from fewer calls",
        "/home",
        lambda a: a.status == 200 and sorted(a.json) == ["name", "orders"],
        user="alice",
        client="mobile-app",
    ),
    Try(
        "JSON, XML and gRPC in one answer",
        "/pages/products/7",
        lambda a: (
            a.status == 200
            and a.json["price"]["currency"] == "EUR"
            and a.json["warehouse"] == "north"
            and "x-gateway-partial" not in a.headers
        ),
    ),
    Try(
        "of it the stock alone, without the calls for the rest",
        "/pages/products/7?fields=stock",
        lambda a: a.status == 200 and list(a.json) == ["stock"],
    ),
    Try(
        "a product that doesn't exist is a 404, as its service says",
        "/pages/products/9999",
        lambda a: _is_problem(a, 404, "part_status"),
    ),
    Try(
        "a plugin of our own; the client can't pretend to be somebody",
        "/tenant/info",
        lambda a: _sent(a)["x-tenant"] == "acme" and "x-user" not in _sent(a),
        headers={"Host": "acme.example.com", "x-user": "root"},
    ),
    Try(
        "no such route",
        "/nowhere",
        lambda a: _is_problem(a, 404, "no_route"),
    ),
)
