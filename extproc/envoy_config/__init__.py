"""The compiler: a gateway file and its routes' modes → Envoy's configuration.

`compile.py` puts the whole together; each other module makes one kind of resource. Nothing
here does I/O, and the same input gives the same output.
"""
