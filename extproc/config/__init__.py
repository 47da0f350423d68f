"""The gateway file: `source` reads, `schema` and `checks` validate, `load` merges, `build` builds.

Errors say file, line, column, key, what is wrong and what was expected (`errors`, `translate`).
"""
