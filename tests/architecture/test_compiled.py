"""What compiling asks of the modules that may be compiled; the compiler doesn't say it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from setup import modules

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "extproc"
SAID = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["extproc"]["compiled"]
NAMED = {kind: [PACKAGE / name for name in names] for kind, names in SAID.items()}


def _name(path: Path) -> str:
    """Return a module's name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = [ROOT / file for file in modules()]
NAMES = {_name(path): path for path in MODULES}
OTHERS = sorted(set(PACKAGE.rglob("*.py")) - set(MODULES))
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def test_what_is_named_is_there() -> None:
    """A module that was renamed would be compiled, or not, in silence."""
    assert all(path.is_dir() for path in NAMED["packages"])
    assert all(path.with_suffix(".py").is_file() for path in NAMED["alone"])
    left = (*NAMED["plugins"], *NAMED["left"])
    assert all(path.with_suffix(".py").is_file() for path in left)
    assert {path.parent for path in left} <= {*NAMED["packages"]}


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


def _ordinary(path: Path) -> set[str]:
    """Return the classes of a module that aren't exceptions."""
    classes = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]
    errors = {"Exception", "ExtprocError", "ConfigFault", "ValueError", "OSError"}
    return {one.name for one in classes if not errors & {ast.unparse(base) for base in one.bases}}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_interpreted_inherits_from_nothing_compiled(path: Path) -> None:
    """The first instance would be a TypeError."""
    tree = ast.parse(path.read_text())
    compiled: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in NAMES:
            ordinary = _ordinary(NAMES[node.module])
            compiled |= {a.asname or a.name for a in node.names if a.name in ordinary}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
            assert not bases & compiled, f"{path.name}:{node.lineno}: {node.name}"
