"""The composition root: `worker` serves decisions, `supervisor` keeps Envoy and workers running.

Both begin with a gateway file and end with everything stopped; what they are made of comes from
`config`, `envoy_config` and `adapters`, and is put together here and nowhere else.
"""
