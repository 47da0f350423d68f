"""Credentials → principal.

`tokens` reads a JWT strictly, `keys` reads key sets, `jwks` keeps an issuer's keys fresh, `jwt`
puts them together, `plugin` is what a route runs.
"""
