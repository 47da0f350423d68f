"""gRPC clients through a real Envoy: calls of every kind pass, and refusals are gRPC's."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import jwt as pyjwt
import pytest

from tests.support.processes import Gateway, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"
REST = """
upstreams:
  calls: {{endpoints: ["grpc://127.0.0.1:{port}"]}}
  gone: {{endpoints: ["grpc://127.0.0.1:1"]}}
authentication:
  shop: {{jwt: {{issuer: "https://id.example", audiences: [shop], secret: "{secret}"}}}}
defaults: {{authentication: none}}
policies:
  nobody: {{rules: [{{name: none, deny: 'true', reason: closed, detail: Not today.}}, {{name: all, allow: 'true'}}]}}
routes:
  - {{name: open, match: {{path: "/test.Calls/{{method}}", methods: [POST]}}, upstream: calls, response: {{headers: {{set: {{x-served-by: gateway}}}}}}}}
  - {{name: private, match: {{path: "/test.Private/{{method}}", methods: [POST]}}, upstream: calls, authentication: [shop]}}
  - {{name: closed, match: {{path: "/test.Closed/{{method}}", methods: [POST]}}, upstream: calls, authentication: [shop], authorization: nobody}}
  - {{name: gone, match: {{path: "/test.Gone/{{method}}", methods: [POST]}}, upstream: gone}}
"""


def _one(data: bytes, context: Any) -> bytes:
    context.set_trailing_metadata([("x-left", f"{context.time_remaining() > 1}")])
    return data


def _many(data: bytes, _context: Any) -> Iterator[bytes]:
    yield from [data] * 3


def _sum(pieces: Iterator[bytes], _context: Any) -> bytes:
    return str(sum(map(len, pieces))).encode()


def _each(pieces: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    yield from pieces


HANDLERS: dict[str, Any] = {
    "One": grpc.unary_unary_rpc_method_handler(_one),
    "Many": grpc.unary_stream_rpc_method_handler(_many),
    "Sum": grpc.stream_unary_rpc_method_handler(_sum),
    "Each": grpc.stream_stream_rpc_method_handler(_each),
}


def token() -> str:
    """Return a credential."""
    now = int(time.time())
    claims = {
        "iss": "https://id.example",
        "aud": "shop",
        "sub": "alice",
        "iat": now,
        "exp": now + 300,
    }
    return pyjwt.encode(claims, SECRET, "HS256")


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Gateway, grpc.Channel]]:
    """Run an upstream and the gateway, with a client."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", HANDLERS)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with ExitStack() as stack:
        stack.callback(lambda: server.stop(0).wait())
        running = stack.enter_context(gateway(REST.format(port=port, secret=SECRET)))
        yield running, stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{running.port}"))


def test_calls_of_every_kind_pass(place: tuple[Gateway, grpc.Channel]) -> None:
    """Unary and streams both ways, with deadline and trailing metadata; answers come one by one."""
    _, channel = place
    call: Any = channel.unary_unary("/test.Calls/One")
    answer, told = call.with_call(b"x", timeout=10)
    assert answer == b"x"
    assert ("x-left", "True") in [tuple(pair) for pair in told.trailing_metadata()]
    assert ("x-served-by", "gateway") in [tuple(pair) for pair in told.initial_metadata()]
    many: Any = channel.unary_stream("/test.Calls/Many")
    assert list(many(b"x", timeout=10)) == [b"x"] * 3
    total: Any = channel.stream_unary("/test.Calls/Sum")
    assert total(iter([b"x" * 1000] * 20), timeout=10) == b"20000"
    each: Any = channel.stream_stream("/test.Calls/Each")
    heard: list[bytes] = []

    sent: list[bytes] = []

    def said() -> Iterator[bytes]:
        for word in (b"0", b"1", b"2"):
            until(lambda: heard == sent, "what was said is answered")
            sent.append(word)
            yield word

    for answer in each(said(), timeout=10):
        heard.append(answer)  # noqa: PERF402 - each as it comes
    assert heard == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("service", "code", "reason"),
    [
        ("Private", grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"),
        ("Closed", grpc.StatusCode.PERMISSION_DENIED, "closed"),
        ("Nowhere", grpc.StatusCode.UNIMPLEMENTED, "no_route"),
        ("Gone", grpc.StatusCode.UNAVAILABLE, "upstream_failed"),
    ],
)
def test_refusals_have_a_status_of_grpc(
    place: tuple[Gateway, grpc.Channel], service: str, code: grpc.StatusCode, reason: str
) -> None:
    """The service's, Envoy's, and of an upstream that isn't there; the problem is the message."""
    _, channel = place
    call: Any = channel.unary_unary(f"/test.{service}/One")
    metadata = [("authorization", f"Bearer {token()}")] if service == "Closed" else []
    with pytest.raises(grpc.RpcError) as caught:
        call(b"x", metadata=metadata, timeout=10)
    assert caught.value.code() is code
    assert json.loads(str(caught.value.details()))["type"] == f"urn:extproc:{reason}"
    trailing: Any = caught.value.trailing_metadata()
    told = [name for name, _ in trailing]
    assert "x-request-id" in told
    assert ("www-authenticate" in told) is (service == "Private")


def test_a_body_over_the_bound(place: tuple[Gateway, grpc.Channel]) -> None:
    """As gRPC's own servers say; the problem says what it was."""
    _, channel = place
    call: Any = channel.unary_unary("/test.Calls/One")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"x" * (2 << 20), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "urn:extproc:request_too_large" in str(caught.value.details())
