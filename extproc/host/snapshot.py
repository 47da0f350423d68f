"""A copy of everything a version was made of.

Supervisor and workers load the copy, so they can't see two states of a file that is being
edited, and a worker that must be replaced starts even while the file is broken.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from extproc.config.build import Assembly, assemble
from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.load import load

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_TRIES = 5


def take(
    gateway: Path, environment: Mapping[str, str], folder: Path
) -> tuple[Assembly, Assembly, Path]:
    """Load a gateway file, copy it, and load the copy.

    Args:
        gateway: the file.
        environment: for `${env:NAME}`.
        folder: where versions are kept; each gets a folder of its own.

    Returns:
        The file as it stands, the same from the copy, and the copy's path.

    Raises:
        ConfigError: it can't be used, or doesn't stop changing.
    """
    for _ in range(_TRIES):
        original = assemble(load(gateway, environment))
        loaded = original.loaded
        target = folder / loaded.version
        for file in loaded.files:
            copy = target / file.relative_to(loaded.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, copy)
        path = target / loaded.files[0].name
        copied = assemble(load(path, environment))
        if copied.loaded.version == loaded.version:
            return original, copied, path
        shutil.rmtree(target, ignore_errors=True)
    raise ConfigError([Trouble(Position(str(gateway)), "", "changes while it is read")])


def _copy(file: Path, copy: Path) -> None:
    """Copy a file, or leave what is there: it may be of the version in force."""
    fresh = copy.with_name(f".{copy.name}.new")
    try:
        shutil.copyfile(file, fresh)
        fresh.replace(copy)
    finally:
        fresh.unlink(missing_ok=True)


def tidy(folder: Path, needed: Collection[str]) -> None:
    """Remove the copies of all other versions."""
    for copy in folder.glob("*"):
        if copy.name not in needed:
            shutil.rmtree(copy, ignore_errors=True)
