"""What pyproject.toml can't say: which modules become C extensions, where that is asked for.

With `EXTPROC_COMPILED=1` in the environment mypyc compiles the modules that an exchange goes
through; see docs/decisions/0008. Without it the package is Python alone. Both are the same sources,
and tests run on both (`make test`, `make test-compiled`).
"""

import os
from pathlib import Path
from typing import Any

from setuptools import setup

_PACKAGES = (
    "adapters/egress",
    "adapters/http2",
    "adapters/local",
    "aggregation",
    "authentication",
    "authorization",
    "caching",
    "core",
    "expressions",
)
_ALONE = (
    "adapters/decision_log",
    "adapters/service",
    "adapters/timers",
    "adapters/wire",
    "adapters/wire_authz",
    "adapters/wire_headers",
    "adapters/wire_log",
)
# Plugins: a subclass is made a dataclass by its base, which a compiled class can't be.
_PLUGINS = (
    "aggregation/plugin",
    "authentication/assertion",
    "authentication/lasting",
    "authentication/plugin",
    "authorization/plugin",
    "caching/by_body",
    "caching/cookies",
    "caching/further",
    "caching/invalidation",
    "caching/plugin",
    "core/plugin",
)
# What mypyc can't compile, or not into what it is.
_LEFT = (
    "adapters/egress/call",  # inherits from a future
    "caching/replicated",  # a generic dataclass with slots
    "core/ports",  # protocols: nothing to compile
    "core/routes",  # weak references lead to a route
    "core/waiting",  # what is thrown into it must come out as it went in
    "expressions/functions",  # inherits from what a metaclass made
    "expressions/metered",  # inherits from what each thread has its own of
)


def _modules() -> list[str]:
    root = Path("extproc")
    found = {file for package in _PACKAGES for file in (root / package).glob("*.py")}
    found |= {root / f"{name}.py" for name in _ALONE}
    found -= {root / f"{name}.py" for name in (*_PLUGINS, *_LEFT)}
    return sorted(str(file) for file in found if file.name != "__init__.py")


def _extensions() -> list[Any]:
    if not os.environ.get("EXTPROC_COMPILED"):
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - a plain build hasn't got it

    options = ["--config-file", "pyproject.toml", *_modules()]
    return mypycify(options, group_name="extproc", multi_file=True, opt_level="2")


setup(ext_modules=_extensions())
