"""A small gateway file with one of everything that matters offline, and ways to judge by it."""

# ruff: noqa: E501 - a call of the gateway file below is one line

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from extproc.config.build import assemble
from extproc.config.load import load
from extproc.offline.gate import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z

GATEWAY = """
version: 1
listener: {address: "127.0.0.1:8080", max_request_bytes: 1KiB}
upstreams:
  orders: {endpoints: ["http://127.0.0.1:1"]}
  users: {endpoints: ["http://127.0.0.1:2"], forward_credentials: true}
authentication:
  shop: {jwt: {issuer: "https://id.example", audiences: [shop], discovery: true}}
  keys: {api_key: {header: x-api-key, file: keys.jsonl}}
identity:
  headers: {x-user: "{principal.subject}", x-kind: "{principal.kind}"}
consumers:
  mobile: {when: 'principal.claims.client_id == "mobile-app"', view: mobile}
  partner: {when: 'principal.kind == "api_key"'}
policies:
  orders-read:
    rules:
      - {name: reader, allow: '"orders:read" in principal.scopes'}
      - name: suspended
        deny: "has(principal.claims.suspended) && principal.claims.suspended == true"
        reason: suspended
      - {name: broken, allow: 'principal.claims.nothing == "x"'}
    candidate:
      rules: [{name: gold, allow: 'principal.claims.tier == "gold"'}]
  by-day:
    rules: [{name: morning, allow: "request.time < timestamp('2026-01-02T00:00:00Z')"}]
  small: {rules: [{name: few, allow: "request.body.n < 5"}]}
defaults: {authentication: [shop, keys]}
routes:
  - name: order
    match: {path: "/orders/{id}", methods: [GET]}
    upstream: orders
    authorization: orders-read
    rewrite: {path: "/v2/orders/{request.params.id}"}
  - name: cached
    match: {path: /products}
    upstream: orders
    authentication: none
    cache: {ttl: 30s}
  - name: day
    match: {path: /day}
    upstream: users
    authorization: by-day
  - name: place
    match: {path: /orders, methods: [POST]}
    upstream: orders
    authentication: none
    request: {body: "{items: basket}"}
  - name: home
    match: {path: /home}
    aggregate:
      calls:
        profile: {upstream: users, path: "/users/{principal.subject}"}
        orders: {upstream: orders, path: "/orders?user={profile.id}"}
        ads: {upstream: orders, path: /ads, required: false, default: []}
      response: "{name: profile.name, orders: orders}"
  - name: page
    match: {path: /page}
    aggregate:
      calls:
        found: {upstream: users, path: "/found?q={request.query.q}"}
        ads: {upstream: orders, path: /ads}
      response: "{found: found, ads: ads}"
      fields: f
  - name: some
    match: {path: "/some/{id}"}
    authentication: none
    aggregate:
      calls:
        one: {upstream: users, path: /one, when: "request.params.id == '1'"}
        two: {upstream: users, path: /two, when: "'full' in request.query && one.x > 1"}
        three:
          upstream: users
          path: /3
          fallback: {upstream: orders, path: "/4/{request.params.id}"}
      response: "[one, two, three]"
  - name: judged
    match: {path: /judged, methods: [POST]}
    authentication: none
    authorization: small
    body: json
    aggregate: {calls: {one: {upstream: users, path: /one}}, response: one}
  - name: sent
    match: {path: /sent, methods: [POST]}
    authentication: none
    aggregate:
      calls:
        one: {upstream: users, path: "/one/{request.body.id}"}
        two: {upstream: users, path: /two, when: request.body.full}
      response: "[one, two]"
  - name: named
    match: {path: "/named/{kind}"}
    authentication: none
    aggregate:
      max_calls: 3
      calls:
        one: {upstream: users, path: "/one/{key}", each: "split(request.queries.ids[0], ',')", when: "request.params.kind == 'split'"}
        two: {upstream: users, path: "/two/{key}", each: request.queries.id, required: false}
        three: {upstream: users, path: "/three/{request.query.needed}", when: "request.params.kind == 'needs'"}
        four: {upstream: users, path: "/{request.query.else}", when: "request.params.kind == 'else'", fallback: {upstream: users, path: "/4/{request.query.or}"}}
        five: {upstream: users, path: "/five/{one[0].id}/{request.query.five}"}
      response: "[one, two, three, four, five]"
  - name: changed
    match: {path: /changed, methods: [POST]}
    authentication: none
    aggregate:
      max_calls: 3
      calls: {all: {upstream: users, method: PUT, path: "/one/{key}", each: request.body.ids}}
      response: all
  - name: own
    match: {path: /own/*}
    upstream: orders
    authentication: none
    plugins: [{use: "own.py:Own"}]
"""
OWN = """
from extproc import Plugin, Response
from extproc.core.errors import UpstreamFault


class Own(Plugin):
    def on_start(self, services):
        self._call = services.call

    async def on_request(self, request):
        request.headers["x-copied"] = request.headers.get("cookie", "")
        if request.path == "/own/raises":
            raise RuntimeError(request.headers.get("cookie", ""))
        if request.path == "/own/calls":
            try:
                await self._call("users", "GET", "/users/7")
            except UpstreamFault:
                return Response.problem(502, "No users", reason="no_users")
"""


def written(folder: Path) -> Path:
    """Write the gateway file and what it names; return its path."""
    (folder / "gateway.yaml").write_text(GATEWAY)
    (folder / "keys.jsonl").write_text("")
    (folder / "own.py").write_text(OWN)
    return folder / "gateway.yaml"


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[Gate]:
    """Give the gate of the gateway file."""
    made = Gate(assemble(load(written(folder), {})), NOW)
    await made.start()
    yield made
    await made.stop()


def get(target: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    """Return a raw request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: shop", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join([*lines, "", ""]) + body).encode("latin-1")
