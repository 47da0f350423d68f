"""The gateway that is attacked, and what became of each request."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt

from tests.attacks.wire import Answer, Received, Upstream, exchange, request
from tests.support.client import ask
from tests.support.processes import Gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence


IDENTITY = ("x-user", "x-scopes", "x-kind")
ASSERTION = "x-gateway-assertion"
# Errors for Envoy's log, 413 for the client.
TOLD_BY_ENVOY = ("content length exceeds maximum", "request size exceeds maximum")
CREDENTIALS = ("authorization", "x-api-key")

TEXT = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:UPSTREAM"]}, slashed: {endpoints: ["http://127.0.0.1:UPSTREAM"]}, dead: {endpoints: ["http://127.0.0.1:1"], retries: 2}}
decisions: {file: records.jsonl}
authentication:
  shop: {jwt: {issuer: "http://issuer.test", audiences: [shop, shop2], jwks: shop.json, algorithms: [RS256, RS512, PS256, ES256, ES384, EdDSA]}}
  other: {jwt: {issuer: "http://other.test", audiences: [shop], jwks: other.json}}
  many: {jwt: {issuer: "http://many.test", audiences: [shop], jwks: many.json}}
  keys: {api_key: {file: keys.jsonl}}
identity:
  headers: {x-user: "{principal.subject}", x-scopes: '{principal.scopes.join(" ")}', x-kind: "{principal.kind}"}
  assertion: {key: assertion.pem, ttl: 60s}
policies:
  tree:
    rules:
      - {name: admin, deny: 'request.path == "/admin" || request.path.startsWith("/admin")', reason: admin_area}
      - {name: public, allow: 'request.path.startsWith("/public/")'}
  list: {rules: [{name: public, allow: 'request.path.startsWith("/public/")'}]}
  all: {rules: [{name: all, allow: 'true'}]}
  roles:
    rules:
      - {name: admin, deny: '"x-role" in request.headers && request.headers["x-role"].split(",").exists(r, r.trim() == "admin")', reason: role_admin}
      - {name: rest, allow: 'true'}
  readonly: {rules: [{name: get, allow: 'request.method == "GET"'}]}
  office: {rules: [{name: office, allow: 'request.address == "203.0.113.9"'}]}
  staff:
    rules:
      - {name: group, allow: 'has(principal.claims.groups) && "staff" in principal.claims.groups'}
      - {name: mail, allow: 'has(principal.claims.email) && principal.claims.email == "chief@corp.com"'}
  regex: {rules: [{name: regex, allow: 'request.path.matches("^/regex/(a+)+$")'}]}
  host: {rules: [{name: host, allow: 'request.host == "host.test"'}]}
defaults: {authentication: none}
routes:
  - {name: private, match: {path: /private/*, host: shop.test}, upstream: echo, authentication: [shop, other, many]}
  - {name: bodies, match: {path: /bodies/*, host: shop.test}, upstream: echo, authentication: [shop], request: {body: "{doubled: [n, n]}"}}
  - {name: public, match: {path: /public/*, host: shop.test}, upstream: echo}
  - {name: optional, match: {path: /optional/*, host: shop.test}, upstream: echo, authentication: [shop, anonymous], authorization: all}
  - {name: key, match: {path: /key/*, host: shop.test}, upstream: echo, authentication: [keys]}
  - {name: both, match: {path: /both/*, host: shop.test}, upstream: echo, authentication: [shop, keys]}
  - {name: roles, match: {path: /roles/*, host: shop.test}, upstream: echo, authentication: [shop], authorization: roles}
  - {name: readonly, match: {path: /readonly/*, host: shop.test}, upstream: echo, authentication: [shop], authorization: readonly}
  - {name: anymethod, match: {path: /anymethod/*, host: shop.test, methods: any}, upstream: echo, authentication: [shop], authorization: readonly}
  - {name: office, match: {path: /office/*, host: shop.test}, upstream: echo, authentication: [shop], authorization: office}
  - {name: staff, match: {path: /staff/*, host: shop.test}, upstream: echo, authentication: [shop], authorization: staff}
  - {name: dead, match: {path: /dead/*, host: shop.test}, upstream: dead, authentication: [shop], response: {body: "body"}}
  - {name: regex, match: {path: /regex/*, host: shop.test}, upstream: echo, authorization: regex}
  - {name: gone, match: {path: /gone, host: shop.test}, upstream: slashed, rewrite: {path: "/{request.query.to}"}}
  - {name: tree, match: {path: /*, host: tree.test}, upstream: echo, authentication: [shop, anonymous], authorization: tree}
  - {name: list, match: {path: /*, host: list.test}, upstream: echo, authentication: [shop, anonymous], authorization: list}
  - {name: open, match: {path: /*, host: open.test}, upstream: echo}
  - {name: area, match: {path: /admin/*, host: area.test}, upstream: echo, authentication: [shop]}
  - {name: area-itself, match: {path: /admin, host: area.test}, upstream: echo, authentication: [shop]}
  - {name: around, match: {path: /*, host: area.test}, upstream: echo}
  - {name: rewritten, match: {path: "/things/{id}", host: rewrite.test}, upstream: echo, rewrite: {path: "/public/{request.params.id}"}, authorization: things}
  - {name: hosted, match: {path: /*, host: host.test}, upstream: echo, authentication: [shop], authorization: host}
"""
THINGS = """policies:
  things: {rules: [{name: thing, allow: 'request.path.startsWith("/things/")'}]}
"""


def gateway_text(upstream: int) -> str:
    """Return the gateway file after its head."""
    inline = THINGS.partition("\n")[2]
    return TEXT.replace("UPSTREAM", str(upstream)).replace("defaults:", inline + "defaults:", 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one request.

    Attributes:
        answer: what the client got.
        received: what the upstream got; empty for nothing.
    """

    answer: Answer
    received: tuple[Received, ...]

    @property
    def status(self) -> int:
        """Return the client's status."""
        return self.answer.status

    @property
    def sent(self) -> Received:
        """Return the one request that the upstream got."""
        assert len(self.received) == 1, self
        return self.received[0]


@dataclass(slots=True)
class Place:
    """A running gateway, its upstream, and its files.

    Attributes:
        unidentified: how many requests got an answer without a request id.
    """

    gateway: Gateway
    upstream: Upstream
    _known: list[dict[str, Any]] = field(default_factory=list)
    _by_id: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _read: int = 0
    unidentified: int = 0

    @property
    def port(self) -> int:
        """Return the public listener's port."""
        return self.gateway.port

    def records(self) -> list[dict[str, Any]]:
        """Return every decision record so far; each line is one."""
        file = self.gateway.folder / "records.jsonl"
        with file.open("rb") as stream:
            stream.seek(self._read)
            fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.split(b"\n")[:-1]:
            record = json.loads(line)
            self._known.append(record)
            self._by_id.setdefault(str(record["request_id"]), []).append(record)
        return self._known

    def send(self, data: bytes, *, method: str = "GET") -> Seen:
        """Send bytes; keep what the upstream got."""
        before = len(self.upstream.received)
        answer = exchange(self.port, data, method=method)
        self.unidentified += answer.status > 0 and answer.header("x-request-id") is None
        return Seen(answer, tuple(self.upstream.received[before:]))

    def get(self, target: str | bytes, *headers: tuple[str, str], **options: Any) -> Seen:
        """Make a request whose parts are sent as they are."""
        return self.send(request(target, *headers, **options), method=options.get("method", "GET"))

    def record(self, seen: Seen) -> dict[str, Any]:
        """Return the one record of a request that has an id."""
        return self.each_record([seen])[0]

    def each_record(self, all_seen: Sequence[Seen]) -> list[dict[str, Any]]:
        """Return the one record of each request, in the requests' order."""
        wanted = [str(seen.answer.header("x-request-id")) for seen in all_seen]
        assert "None" not in wanted, all_seen

        def found() -> bool:
            self.records()
            return all(request_id in self._by_id for request_id in wanted)

        until(found, "every record")
        for request_id in wanted:
            assert len(self._by_id[request_id]) == 1, self._by_id[request_id]
        return [self._by_id[request_id][0] for request_id in wanted]

    def metrics(self) -> str:
        """Return `/metrics`."""
        return ask(self.gateway.admin, "/metrics").body.decode()


def denied(place: Place, seen: Seen, status: int, *reasons: str) -> dict[str, Any]:
    """Expect a denial: nothing upstream, one record with one of these reasons; return it."""
    assert seen.status == status, seen
    assert not seen.received, seen
    assert seen.answer.header("content-type") == "application/problem+json"
    record = place.record(seen)
    assert record["decision"] == "deny", record
    assert record["status"] == status, record
    assert record["reason"] in reasons, record
    return record


def allowed(place: Place, seen: Seen, user: str | None = None) -> dict[str, Any]:
    """Expect that it reached the upstream, as this user or as nobody; return its record."""
    assert seen.status == 200, seen
    clean(seen.sent, user)
    record = place.record(seen)
    assert record["decision"] == "allow", record
    return record


def clean(got: Received, user: str | None = None) -> None:
    """Expect that the upstream is told who is calling by the gateway and nobody else."""
    assert got.values("x-user") == ([user] if user is not None else []), got
    assert len(got.values("x-kind")) == (user is not None), got
    assert all(len(got.values(name)) <= (user is not None) for name in IDENTITY), got
    assert not [name for name in CREDENTIALS if got.values(name)], got
    (assertion,) = got.values(ASSERTION)
    told = jwt.decode(assertion, options={"verify_signature": False})
    assert told.get("sub") == user, told
    assert (told["kind"] == "anonymous") == (user is None), told


def malformed(place: Place, all_data: Sequence[bytes], statuses: frozenset[int]) -> list[Seen]:
    """Expect that Envoy refuses each of these and records it, and that nothing gets through."""
    all_seen = [place.send(data) for data in all_data]
    for data, seen in zip(all_data, all_seen, strict=True):
        assert seen.status in statuses, (data[:200], seen)
        assert not seen.received, (data[:200], seen)
    identified = [seen for seen in all_seen if seen.answer.header("x-request-id") is not None]
    for record in place.each_record(identified):
        assert record["decision"] == "deny", record
        assert record["reason"], record
    until(lambda: len(unidentified(place)) >= place.unidentified, "Envoy's records")
    for record in unidentified(place)[-place.unidentified :]:
        assert record["decision"] == "deny", record
        assert record["reason"], record
    return all_seen


def unidentified(place: Place) -> list[dict[str, Any]]:
    """Return what Envoy recorded of requests that it could not parse; those have no id."""
    every = place.records()
    return [r for r in every if r["by"] == "envoy" and r["request_id"] is None]


def quiet(said: str) -> list[dict[str, Any]]:
    """Return the events of a log, each one JSON line."""
    events = []
    for line in said.splitlines():
        event = json.loads(line)
        known = event["source"] == "envoy" and event["event"].startswith(TOLD_BY_ENVOY)
        assert known or event["level"] not in {"error", "critical"}, event
        assert "Traceback" not in line
        events.append(event)
    return events


def bearer(token: str) -> tuple[str, str]:
    """Return the header of a token."""
    return ("Authorization", f"Bearer {token}")


def now() -> int:
    """Return the time as tokens say it."""
    return int(time.time())
