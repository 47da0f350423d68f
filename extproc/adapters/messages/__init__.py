"""Generated from protos/ by `make protos`; only `extproc.adapters.wire*` reads it."""
