"""Copies of what versions are made of."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from extproc.config.load import load
from extproc.host import snapshot

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """version: 1
listener: {address: "127.0.0.1:8080"}
upstreams: {up: {endpoints: ["http://127.0.0.1:1"]}}
policies: policies/
routes: [{name: r, match: {path: /r}, upstream: up, authentication: none, authorization: p}]
"""


def test_a_copy_in_force_outlasts_a_disk_that_is_full(tmp_path: Path) -> None:
    """The same version is copied again where a file was touched; who starts later reads it."""
    file, copies = tmp_path / "gateway.yaml", tmp_path / "copies"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(
        "policies: {p: {rules: [{name: a, allow: 'true'}]}}"
    )
    file.write_text(TEXT)
    _, _, path = snapshot.take(file, {}, copies)
    before = {one: one.read_bytes() for one in path.parent.rglob("*") if one.is_file()}
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            snapshot.take(file, {}, copies)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert {one: one.read_bytes() for one in path.parent.rglob("*") if one.is_file()} == before
    assert load(path, {}).version == path.parent.name
