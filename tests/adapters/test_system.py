"""What processes leave behind on a machine."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.system import held, remove_forgotten

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a temporary folder of one's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(folder: Path, *, age: float = 3600.0, inside: str = "versions") -> Path:
    """Make a folder as one that was killed has it."""
    (folder / inside).mkdir(parents=True)
    (folder / inside / "key.pem").write_text("secret")
    then = folder.stat().st_mtime - age
    os.utime(folder, (then, then))
    return folder


def test_what_nobody_holds_is_removed(temporary: Path) -> None:
    """With the copies of keys in it."""
    folder = left(temporary / "extproc-abcdefgh")
    remove_forgotten("extproc-", "versions")
    assert not folder.exists()


def test_what_somebody_may_want_stays(temporary: Path) -> None:
    """A gateway that runs, one that begins to, what is another's, and what is only named so."""
    running, new = left(temporary / "extproc-running"), left(temporary / "extproc-new", age=0.0)
    other, named = left(temporary / "other-old"), left(temporary / "extproc-0", inside="else")
    elsewhere = left(temporary / "mine")
    (temporary / "extproc-link").symlink_to(elsewhere)
    descriptor = held(running)
    remove_forgotten("extproc-", "versions")
    for folder in (running, new, other, named, elsewhere, temporary / "extproc-link"):
        assert folder.exists(), folder
    os.close(descriptor)
    remove_forgotten("extproc-", "versions")
    assert not running.exists()
