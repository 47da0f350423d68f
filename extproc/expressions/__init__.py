"""The languages inside a gateway file: conditions (CEL), text with holes, bodies (JMESPath).

A layer of its own between core and features: authorization, consumers, identity, transformation
and aggregation all speak them, and features never import each other.
"""
