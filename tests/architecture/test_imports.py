"""The architecture's rules, read from the imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "extproc"
FEATURES = ("authentication", "authorization", "caching", "aggregation", "transformation")

# A part of the package: what it may import of the others. Arrows of design point one way.
MAY = {
    "core": set(),
    "expressions": {"core"},
    **{feature: {"core", "expressions"} for feature in FEATURES},
    "config": {"core", "expressions", *FEATURES},
    "envoy_config": {"core", "config"},
    "adapters": {"core"},
    "testing": {"core", "adapters"},
    "offline": {"core", "expressions", *FEATURES, "config", "envoy_config", "adapters", "testing"},
    "host": {"core", "caching", "config", "envoy_config", "adapters", "offline"},
    "cli": {"core", "config", "envoy_config", "adapters", "offline", "host"},
}
# Libraries that belong to one place.
ONLY_IN = {
    "grpc": {"adapters"},
    "grpc_health": {"adapters"},
    "hpack": {"adapters"},
    # Messages of upstreams, by their descriptors; what CEL compiled.
    "google": {"adapters", "aggregation", "expressions"},
    "aiohttp": {"adapters"},
    "yarl": {"adapters"},
    "redis": {"adapters"},
    "prometheus_client": {"adapters"},
    "envoy_data_plane": {"envoy_config"},
    "uvloop": {"cli"},
    "pydantic": {"config"},
    "yaml": {"config"},
    "typer": {"cli"},
    "jwt": {"authentication"},
    "cel_expr_python": {"expressions"},
    "jmespath": {"expressions"},
}
# What would be I/O, a clock or chance in the core.
IMPURE = {
    "asyncio",
    "io",
    "os",
    "pathlib",
    "random",
    "secrets",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "uuid",
}


def modules() -> list[Path]:
    """Return every module of the package that people write."""
    return [p for p in sorted(PACKAGE.rglob("*.py")) if not p.name.endswith("_pb2.py")]


def part(path: Path) -> str:
    """Return which part of the package a module is in; the root's own modules by their name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the full names of what a module imports, those for types included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_inward(path: Path) -> None:
    """A module imports only what its part may, and libraries only where they belong."""
    own = part(path)
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == "extproc" and own in MAY:
            other = rest.partition(".")[0]
            assert other in {own, ""} or other in MAY[own], f"{own} imports {name}"
        if first in ONLY_IN:
            assert own in ONLY_IN[first], f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.name)
def test_the_core_is_pure(path: Path) -> None:
    """Standard library and the JSON parser only, and nothing that does I/O, waits or draws."""
    for name in imports(path):
        first = name.partition(".")[0]
        assert first in sys.stdlib_module_names or first in {"extproc", "orjson"}, name
        assert name not in IMPURE, name
        assert first not in IMPURE, name


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "adapters" / "http2").glob("*.py")), ids=lambda p: p.name
)
def test_http2_is_pure_and_knows_nothing_else(path: Path) -> None:
    """Bytes in, events and bytes out: no I/O, no clock, no gRPC; HPACK is a library's."""
    for name in imports(path):
        first = name.partition(".")[0]
        assert first in sys.stdlib_module_names or first in {"extproc", "hpack"}, name
        assert first not in IMPURE, name
        assert first != "extproc" or name.startswith("extproc.adapters.http2"), name


def test_only_the_wire_reads_generated_code() -> None:
    """Plugins and the rest never see protobuf."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.startswith("extproc.adapters.messages") for name in imports(path))
    }
    assert {Path(reader).name[:4] for reader in readers} == {"wire"}, readers


def test_config_schema_is_all_the_compiler_needs() -> None:
    """The compiler reads the schema, not how it was loaded."""
    for path in sorted((PACKAGE / "envoy_config").glob("*.py")):
        for name in imports(path):
            if name.startswith("extproc.config"):
                assert name.startswith("extproc.config.schema"), f"{path.name}: {name}"


def test_no_module_without_a_subject() -> None:
    """Names that say nothing collect everything."""
    stems = {path.stem for path in modules()}
    assert stems.isdisjoint({"utils", "util", "helpers", "common", "manager", "base", "misc"})


def test_modules_stay_small() -> None:
    """A module over 400 lines of code has more than one subject."""
    for path in modules():
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        code = [line for line in lines if not line.strip().startswith("#")]
        assert len(code) <= 400, f"{path}: {len(code)} lines"


def test_the_envoy_folder_hides_nothing() -> None:
    """An `__init__.py` there would hide the installed package of that name."""
    assert not list((ROOT / "envoy").rglob("__init__.py"))


def test_the_map_of_the_package_is_short_and_true() -> None:
    """The package's docstring names every part, in at most 25 lines."""
    text = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text())) or ""
    assert len(text.splitlines()) <= 25
    for name in MAY:
        assert name in text, name
