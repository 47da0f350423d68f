"""A programmable API gateway on Envoy."""
