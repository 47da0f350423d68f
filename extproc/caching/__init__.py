"""See the package docstring of extproc for the map."""
