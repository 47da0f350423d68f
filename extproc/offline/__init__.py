"""One request judged without Envoy, network or upstream: what `explain` and policy tests stand on.

    raw       bytes of HTTP/1.1 → a message, or a rejection, as the compiled Envoy reads them
    paths     the normal form of a path, as the compiled Envoy makes it
    edge      a message → the request that the service would see: what is taken off and added
    routing   the route that the compiled Envoy would take, or why there is none
    trace     what each plugin saw, decided and changed
    gate      all of it in a row, for one gateway file

Where this differs from a real Envoy, `extproc test --live` says so, and so does a test with some
hundred raw requests.
"""
