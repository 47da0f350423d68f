"""The local gRPC server: for an Envoy on the same host, over a Unix socket or loopback.

It answers all frames of one read in one write, and an exchange whose hooks don't wait without
a task. It has no TLS and no compression, and is refused any other address than this host's:
across a network `grpcio` serves (`adapters/grpcio_server.py`).

    statuses   gRPC's status codes and the header blocks that carry them
    framing    length-prefixed messages out of DATA cut anywhere
    heads      what a request's header fields say: method, deadline, or a refusal
    calls      one RPC of each kind, on a stream
    health     grpc.health.v1
    methods    which call serves which method
    peer       one connection: the driver between asyncio and `http2.Connection`
    polling    keeps the loop awake between exchanges, where that is asked for
    server     listens, counts connections, ends gracefully

The protocol itself is next door, in `http2`, and knows nothing of gRPC or asyncio.
"""
