"""Generated from protos/ by `make protos`; only `extproc.expressions.bounded` reads it."""
