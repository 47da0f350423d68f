"""What we say of raw requests is what a real Envoy does with them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from extproc.adapters.envoy_binary import binary
from extproc.host.trying import through_envoy
from extproc.offline.comparing import elsewhere
from extproc.offline.gate import Gate
from extproc.offline.running import prepare
from tests.offline.raw_requests import requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from extproc.offline.running import Judge

GATEWAY = """
version: 1
listener: {address: "127.0.0.1:8080"}
upstreams: {echo: {endpoints: ["http://127.0.0.1:1"]}}
identity: {headers: {x-user: "{principal.subject}"}, assertion: {key: key.pem}}
defaults: {authentication: none}
policies: {nobody: {rules: [{name: nobody, deny: "true"}]}}
routes:
  - {name: locked, match: {path: /locked}, upstream: echo, authorization: nobody}
  - {name: any, match: {path: /*, methods: any}, upstream: echo}
  - {name: get, match: {path: /get, methods: [GET], host: zz}, upstream: echo}
  - {name: shop, match: {path: /*, host: shop}, upstream: echo}
  - {name: wild, match: {path: /*, host: "*.example.com"}, upstream: echo}
  - {name: up, match: {path: /up}, upstream: echo, upgrade: [websocket]}
  - {name: when, match: {path: /when, headers: {x-beta: "yes"}}, upstream: echo}
  - {name: asked, match: {path: /asked, query: {mode: x}}, upstream: echo}
  - {name: strict, match: {path: "/strict/{id}", host: strict}, upstream: echo}
"""
TESTS = """
gateway: gateway.yaml
tests: [{name: any, request: "GET /x HTTP/1.1", expect: {decision: allow}}]
"""
# What Envoy makes anew for each request, or for the connection behind it.
_OWN = {"host", "x-request-id", "x-forwarded-for", "x-envoy-external-address", "x-forwarded-host"}
_OWN |= {"x-gateway-assertion"}
_FRAMING = {"content-length", "transfer-encoding"}


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[Gate, Judge]]:
    """Give the gateway file offline and behind a real Envoy."""
    key = ed25519.Ed25519PrivateKey.generate()
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(written)
    (folder / "gateway.yaml").write_text(GATEWAY)
    (folder / "some_test.yaml").write_text(TESTS)
    prepared = prepare(folder / "some_test.yaml", {})
    gate = Gate(prepared.assembly, prepared.now)
    await gate.start()
    async with through_envoy(binary(None))(prepared) as judge:
        yield gate, judge
    await gate.stop()


async def test_every_raw_request_is_read_as_envoy_reads_it(tmp_path: Path) -> None:
    """Decision, status, reason, route, host and path as policies see them, and what goes on."""
    wrong = {}
    async with both(tmp_path) as (gate, judge):
        for name, raw in requests().items():
            offline = (await gate.judge(raw)).verdict
            live = await judge(raw)
            found = [f"{d.what}: we {d.expected}, it {d.got}" for d in elsewhere(offline, live)]
            if offline.upstream is not None and live.upstream is not None:
                ours = {n: v for n, v in offline.upstream.headers.items() if n not in _OWN}
                theirs = {n: v for n, v in live.upstream.headers.items() if n not in _OWN}
                if {**ours, **dict.fromkeys(_FRAMING)} != {**theirs, **dict.fromkeys(_FRAMING)}:
                    found.append(f"headers: we {ours}, it {theirs}")
            if found:
                wrong[name] = found
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
