"""The pure core: values, the law of an exchange, the plugin contract, chain, guard, routes, ports.

Nothing here does I/O, reads a clock or draws a random number: what an exchange needs of the
outside world comes in as a port (`ports.py`).
"""
