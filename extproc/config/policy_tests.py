"""Reading files of policy tests: which there are, and what each says, strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.schema.policy_tests import PolicyTests
from extproc.config.source import filler, read
from extproc.config.translate import Positions, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_ENDING = "_test.yaml"


def files(paths: Iterable[Path]) -> list[Path]:
    """Return each test file once: those named, and those below folders.

    Raises:
        FileNotFoundError: a path is neither a file nor a folder.
    """
    return list(dict.fromkeys(file for path in paths for file in _below(path)))


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(path.rglob(f"*{_ENDING}"))
    elif path.is_file():
        yield path
    else:
        raise FileNotFoundError(f"{path} is neither a file nor a folder")


def parse(path: Path, environment: Mapping[str, str]) -> tuple[PolicyTests, Positions]:
    """Read one file; with where everything in it stands.

    Raises:
        ConfigError: with every trouble that was found.
    """
    document = read(path, str(path), filler(path.resolve().parent, environment))
    if not isinstance(document.data, dict):
        raise ConfigError([Trouble(Position(str(path)), "", "is no mapping", "expected keys")])
    positions = Positions(document.keys, document.values, str(path))
    try:
        tests = PolicyTests.model_validate(document.data)
    except ValidationError as error:
        troubles = translated(error, PolicyTests, document.data, positions)
        raise ConfigError(troubles) from error
    twice = list(_twice(tests, positions))
    if twice:
        raise ConfigError(twice)
    return tests, positions


def _twice(tests: PolicyTests, positions: Positions) -> Iterator[Trouble]:
    """Yield each name that another thing of its kind has already."""
    for name in tests.keys.keys() & tests.tokens.keys():
        at, named = positions.of_key(("keys", name)), positions.named(("keys", name))
        yield Trouble(at, named, "is a token's name as well", "expected different names")
    seen: set[str] = set()
    for place, test in enumerate(tests.tests):
        key = ("tests", place, "name")
        if test.name in seen:
            problem = f"is {test.name!r}, as another test's"
            at, named = positions.of_value(key), positions.named(key)
            yield Trouble(at, named, problem, "expected different names")
        seen.add(test.name)
