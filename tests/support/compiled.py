"""Whether the package under test is the compiled one."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.core import exchange

COMPILED = Path(exchange.__file__).suffix != ".py"

interpreted = pytest.mark.skipif(
    COMPILED, reason="changes or inherits from a class, which a compiled one doesn't let"
)
