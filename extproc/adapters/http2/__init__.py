"""HTTP/2 without I/O: bytes in, events and bytes out (RFC 9113).

As much of it as gRPC and calls through Envoy need: no push, no upgrade from HTTP/1.1, no
compression of what we send.

    errors       what a peer can do wrong: one table, with the RFC's sections
    limits       every bound with its name, and the budgets behind the flood limits
    frames       the layout of frames, and the few we write
    settings     what the peer announces, and what we do
    fields       header blocks: HPACK by the `hpack` library, remembered once that is sound
    streams      one stream with its windows, and the table of all
    events       what `Connection.receive` returns
    outbox       what is to be sent, under the peer's windows
    sending      our side: responses, resets, ends
    connection   the peer's side: the state machine
    replies      what a server's header blocks say, field by field
    client       the same machine for the side that makes requests

Invariants, held by property tests: any bytes give legal frames or one declared error; cutting
the same bytes elsewhere gives the same events; the stream table holds exactly the streams that
either side has not ended.
"""
