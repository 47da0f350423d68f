"""What pyproject.toml can't say: that modules become C extensions, where that is asked for.

With `EXTPROC_COMPILED=1` in the environment mypyc compiles the modules that an exchange goes
through; `[tool.extproc.compiled]` of pyproject.toml names them, docs/decisions/0008 gives reasons.
Without it the package is Python alone. Both are the same sources, and tests run on both
(`make test`, `make test-compiled`).
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import setup  # type: ignore[import-untyped]


def modules() -> list[str]:
    """Return the files that are compiled."""
    said = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["extproc"]["compiled"]
    root = Path("extproc")
    found = {file for package in said["packages"] for file in (root / package).glob("*.py")}
    found |= {root / f"{name}.py" for name in said["alone"]}
    found -= {root / f"{name}.py" for name in (*said["plugins"], *said["left"])}
    return sorted(str(file) for file in found if file.name != "__init__.py")


def extensions() -> list[Any]:
    """Return what setuptools compiles; nothing unless that is asked for."""
    if not os.environ.get("EXTPROC_COMPILED"):
        return []
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - a plain build hasn't got it
    except ImportError:
        sys.exit("EXTPROC_COMPILED=1: install mypy, and build with --no-build-isolation")
    options = ["--config-file", "pyproject.toml", *modules()]
    return mypycify(options, group_name="extproc", multi_file=True, opt_level="2")


if __name__ == "__main__":
    setup(ext_modules=extensions())
