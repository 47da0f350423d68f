"""What Envoys of ingresses ask over ext_authz, recorded and asked again: one answer in every form.

`tests/authz/record.py` made the recordings with a real Envoy, TLS and a client's certificate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from extproc.adapters.messages import ext_authz_pb2
from extproc.adapters.wire_authz import CHECK
from tests.support.places import free_port, short_folder
from tests.support.processes import head, service

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDED = Path(__file__).parent / "recorded"
FORMS = ("texts", "raw", "body", "raw-body")
REST = """
upstreams: {things: {endpoints: ['http://127.0.0.1:1']}}
authentication:
  mesh: {mtls: {trust_domains: [corp.example]}}
  keys: {api_key: {header: x-api-key, file: keys.jsonl}}
  shop: {jwt: {issuer: "https://id", audiences: [a], secret: "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"}}
identity: {headers: {x-user: "{principal.subject}", x_plan: "{principal.claims.plan}"}}
policies:
  carts: {rules: [{name: cart, allow: 'principal.subject == "spiffe://corp.example/cart"'}]}
  nobody: {rules: [{name: nobody, allow: 'principal.subject == "nobody"'}]}
  small: {rules: [{name: small, allow: 'request.body.total <= 5'}]}
routes:
  - {name: things, match: {path: "/things/{id}"}, upstream: things, authentication: mesh, authorization: carts}
  - {name: orders, match: {path: /orders}, upstream: things, authentication: mesh, body: json, authorization: [carts, small]}
  - {name: forbidden, match: {path: /forbidden}, upstream: things, authentication: mesh, authorization: nobody}
  - {name: open, match: {path: /open}, upstream: things, authentication: none}
"""  # noqa: E501 - a route is one line


@pytest.fixture(scope="module")
def check() -> Iterator[Any]:
    """Return what asks a running service."""
    with short_folder() as folder:
        file = folder / "gateway.yaml"
        file.write_text(head(free_port(), free_port()) + REST)
        (folder / "keys.jsonl").write_text("")
        listen = f"127.0.0.1:{free_port()}"
        with service(file, listen), grpc.insecure_channel(listen) as channel:
            call: Any = channel.unary_unary(CHECK)

            def asked(message: ext_authz_pb2.CheckRequest) -> ext_authz_pb2.CheckResponse:
                answer = call(message.SerializeToString(), timeout=10)
                return ext_authz_pb2.CheckResponse.FromString(answer)

            yield asked


def recorded(name: str) -> ext_authz_pb2.CheckRequest:
    """Return a recording."""
    text = json.loads((RECORDED / f"{name}.json").read_text())
    return ParseDict(text, ext_authz_pb2.CheckRequest(), ignore_unknown_fields=True)


@pytest.mark.parametrize("form", FORMS)
def test_who_it_is_and_what_is_taken_off(check: Any, form: str) -> None:
    """The certificate names the caller; what the client said of itself, and credentials, go."""
    answer = check(recorded(f"{form}-get"))
    assert answer.status.code == 0
    written = {h.header.key: h.header.value for h in answer.ok_response.headers}
    assert written == {"x-user": "spiffe://corp.example/cart"}
    assert list(answer.ok_response.headers_to_remove) == ["authorization", "x_plan"]


@pytest.mark.parametrize("form", FORMS)
def test_the_route_of_the_ingress_is_another_policy(check: Any, form: str) -> None:
    """`context_extensions` say which; one that isn't in force lets nothing through."""
    message = recorded(f"{form}-get")
    verdict = check(message).dynamic_metadata["extproc"]["verdict"]
    version = verdict.partition("@")[2]
    message.attributes.context_extensions["extproc_route"] = f"forbidden@{version}"
    assert check(message).denied_response.status.code == 403
    message.attributes.context_extensions["extproc_route"] = "things@other"
    assert check(message).denied_response.status.code == 503


@pytest.mark.parametrize("form", FORMS)
def test_bodies(check: Any, form: str) -> None:
    """Judged where they were sent as a whole; else denied, whatever is in them."""
    small, large = check(recorded(f"{form}-post")), check(recorded(f"{form}-large"))
    if form.endswith("body"):
        assert small.status.code == 0
    else:
        assert small.denied_response.status.code == 413
    assert large.denied_response.status.code == 413


@pytest.mark.parametrize("form", FORMS)
def test_H2_no_spelling_of_identity_passes(check: Any, form: str) -> None:
    """On open routes too, where the caller is nobody."""
    message = recorded(f"{form}-get")
    http = message.attributes.request.http
    http.path = "/open"
    spellings = ["x-user", "x.user", "x_user", "x-api-key", "x-original-url", "x-plan", "x_plan"]
    for name in spellings:
        if http.header_map.headers:
            http.header_map.headers.add(key=name, raw_value=b"mallory")
        else:
            http.headers[name] = "mallory"
    answer = check(message)
    assert answer.status.code == 0
    assert not answer.ok_response.headers
    assert set(answer.ok_response.headers_to_remove) == {*spellings, "authorization"}


@pytest.mark.parametrize("form", FORMS)
def test_without_a_certificate(check: Any, form: str) -> None:
    """401."""
    message = recorded(f"{form}-get")
    message.attributes.source.principal = ""
    message.attributes.source.certificate = ""
    assert check(message).denied_response.status.code == 401
