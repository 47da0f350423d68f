"""One answer out of many calls: a plan made when the gateway file loads, run per request.

calls        what a call is, and what its failure means
bodies       JSON bodies with holes
plan         which call waits for which, and which a view needs
tree         the plan as text
kinds        JSON, XML, GraphQL and gRPC: what is sent, and what an answer says
markup       XML as plain values
procedures   gRPC methods by their descriptors
joins        keys, chunks, and items by key
requests     one call's request, and what an upstream is told of who is calling
idempotency  keys by which an upstream knows a change that it was told twice
budget       bounds of one exchange, and of one upstream
failures     what went wrong, and what the client is told
freshness    how long a composed answer is fresh
counts       how calls ended
tallies      what reading a gRPC answer may cost
fields       what the gateway file reads of a gRPC message, held against its fields
views        which shape a client gets
legs         what has come of a part, and the calls that make it up
underway     the calls that have begun, and those that wait for their turn
waking       when the exchange goes on
execution    one request's calls
plugin       the plugin
"""
