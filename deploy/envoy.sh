#!/bin/sh
# Compiles the shop's gateway file for an Envoy of its own, and becomes that Envoy. What it is
# given are options of `extproc envoy`.
set -eu
folder=$(mktemp -d)
extproc envoy examples/shop/gateway.yaml "$@" > "$folder/envoy.json"
exec envoy -c "$folder/envoy.json" --disable-hot-restart
