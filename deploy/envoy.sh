#!/bin/sh
# Compiles the shop's gateway file for an Envoy of its own, and becomes that Envoy.
set -eu
extproc envoy examples/shop/gateway.yaml --service 127.0.0.1:9191 > /tmp/envoy.json
exec python -c 'import os
from extproc.adapters.envoy_process import binary
os.execv(binary(None), ["envoy", "-c", "/tmp/envoy.json"])'
