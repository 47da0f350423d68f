"""Records what a real Envoy sends to an ext_authz service: what the tests replay.

    python -m tests.authz.record

Each filter configuration that ingresses use, each request: one file of JSON.
"""

from __future__ import annotations

import copy
import json
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import yaml
from google.protobuf.json_format import MessageToDict

from extproc.adapters.messages import ext_authz_pb2
from extproc.adapters.wire_authz import CHECK
from tests.support.certificates import made
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, envoy

RECORDED = Path(__file__).parent / "recorded"
BODY = {"max_request_bytes": 64, "allow_partial_message": True}
# What ingresses set: Istio and Emissary send a map of text and bodies, Contour neither.
FILTERS: dict[str, dict[str, Any]] = {
    "texts": {"encode_raw_headers": False},
    "raw": {"encode_raw_headers": True, "include_peer_certificate": True},
    "body": {"encode_raw_headers": False, "with_request_body": BODY},
    "raw-body": {
        "encode_raw_headers": True,
        "with_request_body": BODY | {"pack_as_bytes": True},
    },
}
REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "get": ("GET", "/things/1?a=b", {"x-user": "mallory", "authorization": "Bearer x"}, b""),
    "post": ("POST", "/orders", {"content-type": "application/json"}, b'{"total":5}'),
    "large": ("POST", "/orders", {"content-type": "application/json"}, b'{"t":"%s"}' % (b"x" * 99)),
}


class Recorder(grpc.GenericRpcHandler):
    """Keeps every CheckRequest and lets nothing through."""

    def __init__(self) -> None:
        self.kept: list[ext_authz_pb2.CheckRequest] = []

    def service(self, details: Any) -> Any:
        """Handle Check."""
        assert details.method == CHECK

        def answer(data: bytes, _context: Any) -> bytes:
            self.kept.append(ext_authz_pb2.CheckRequest.FromString(data))
            return ext_authz_pb2.CheckResponse(
                status=ext_authz_pb2.Status(code=7)
            ).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


def main() -> None:
    """Record."""
    RECORDED.mkdir(exist_ok=True)
    for name, options in FILTERS.items():
        for request, message in recorded(options).items():
            file = RECORDED / f"{name}-{request}.json"
            text = MessageToDict(message, preserving_proto_field_name=True)
            file.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
            sys.stdout.write(f"{file.name}\n")


def recorded(options: dict[str, Any]) -> dict[str, ext_authz_pb2.CheckRequest]:
    """Return what an Envoy with these options asks about each request."""
    port, listen, recorder = free_port(), free_port(), Recorder()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[recorder])
    server.add_insecure_port(f"127.0.0.1:{listen}")
    server.start()
    ca = made("test authority")
    client, own = made("cart", ca, uri="spiffe://corp.example/cart"), made("127.0.0.1", ca)
    with short_folder() as folder:
        for file, text in (
            ("ca", ca.pem),
            ("own", own.pem),
            ("own.key", own.key_pem),
            ("client", client.pem + client.key_pem),
        ):
            (folder / file).write_text(text)
        plain = free_port()
        with envoy(_config(folder, port, plain, listen, options), plain):
            context = ssl.create_default_context(cafile=str(folder / "ca"))
            context.check_hostname = False
            context.load_cert_chain(folder / "client")
            found = {}
            for name, (method, path, headers, body) in REQUESTS.items():
                recorder.kept.clear()
                connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
                connection.request(method, path, body or None, headers | {"host": "shop"})
                connection.getresponse().read()
                connection.close()
                (found[name],) = recorder.kept
    server.stop(0)
    return found


def _config(folder: Path, port: int, plain: int, listen: int, options: dict[str, Any]) -> Any:
    """Return the configuration in `envoy/`, with TLS on one port and without on another."""
    text = (ROOT / "envoy" / "ext_authz.yaml").read_text()
    for old, new in ((8080, port), (9191, listen), (9108, free_port())):
        text = text.replace(f"port_value: {old}", f"port_value: {new}")
    config = yaml.safe_load(text)
    listeners = config["static_resources"]["listeners"]
    listeners.append(copy.deepcopy(listeners[0]) | {"name": "plain"})
    listeners[1]["address"]["socket_address"]["port_value"] = plain
    (chain,) = listeners[0]["filter_chains"]
    (manager,) = chain["filters"]
    manager["typed_config"]["http_filters"][0]["typed_config"] |= options
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    chain["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": kind,
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": f"{folder}/own"},
                        "private_key": {"filename": f"{folder}/own.key"},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": f"{folder}/ca"}},
            },
        },
    }
    return config


if __name__ == "__main__":
    main()
