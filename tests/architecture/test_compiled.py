"""What compiling asks of the modules that may be compiled; the compiler doesn't say it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "extproc"
SAID = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["extproc"]["compiled"]
NAMED = {kind: [PACKAGE / name for name in names] for kind, names in SAID.items()}
FOUND = {
    *(file for package in NAMED["packages"] for file in package.glob("*.py")),
    *(path.with_suffix(".py") for path in NAMED["alone"]),
}
LEFT = {path.with_suffix(".py") for path in (*NAMED["plugins"], *NAMED["left"])}
MODULES = sorted(FOUND - LEFT)
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def test_what_is_named_is_there() -> None:
    """A module that was renamed would be compiled, or not, in silence."""
    assert all(path.is_dir() for path in NAMED["packages"])
    assert all(path.with_suffix(".py").is_file() for path in NAMED["alone"])
    assert LEFT <= FOUND


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_caught_exception_has_a_name_of_its_own(path: Path) -> None:
    """Compiled, a name has one type in a function: the second exception would be a TypeError."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, FUNCTIONS):
            continue
        caught: dict[str, str] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
                kind = ast.unparse(node.type)
                place = f"{path.name}:{node.lineno}: {node.name}"
                assert caught.setdefault(node.name, kind) == kind, place
