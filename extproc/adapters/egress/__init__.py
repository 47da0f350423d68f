"""Calls to upstreams through Envoy's egress listener: HTTP/2 on a Unix socket, many at once.

All calls that are made in one turn of the event loop leave in one write, and all answers of one
read are handled at once. A call is told promptly of its answer, and no call has a task.

    blocks      header blocks of requests, written once for each field
    call        one call: what has come of its answer, and who is told
    came        the headers of an answer
    waited      a future of it, for who awaits the call
    encodings   content codings, within bounds
    link        one connection
    caller      the port: which link a call takes, and links that were lost
"""
