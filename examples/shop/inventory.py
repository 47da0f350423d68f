"""Stock over gRPC; the code for its messages is made from the proto when it starts."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_tools import protoc

from examples.shop import data
from examples.shop.serving import announce, end_with_parent, parser

_METHOD = "GetStock"
_SERVICE = "shop.inventory.v1.Inventory"


def messages(folder: Path) -> Any:
    """Generate the messages' module into a folder and import it."""
    here = Path(__file__).parent
    status = protoc.main(["protoc", f"-I{here}", f"--python_out={folder}", "inventory.proto"])
    if status != 0:
        raise RuntimeError("inventory.proto doesn't compile")
    sys.path.insert(0, str(folder))
    return importlib.import_module("inventory_pb2")


async def _serve(port: int, pb2: Any) -> None:
    stock = {product["sku"]: product["stock"] for product in data.products()}

    async def get_stock(request: Any, context: Any) -> Any:
        if request.sku not in stock:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such product")
        return pb2.Stock(sku=request.sku, quantity=stock[request.sku], warehouse="north")

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        get_stock,
        request_deserializer=pb2.GetStockRequest.FromString,
        response_serializer=pb2.Stock.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})]
    )
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    announce("grpc", bound)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(0.5)


def _main() -> None:
    port = parser().parse_args().port
    end_with_parent()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_serve(port, messages(Path(folder))))


if __name__ == "__main__":
    _main()
