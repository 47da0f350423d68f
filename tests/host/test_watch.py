"""Noticing changes: edits, and those that come while an earlier one is being loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.config.load import Loaded, load
from extproc.host.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {echo: {endpoints: ["http://127.0.0.1:2"]}}
policies: policies/
routes:
  - {name: a, match: {path: /a}, upstream: echo, authentication: none}
"""
POLICY = "policies: {%s: {rules: [{name: r, allow: 'true'}]}}\n"


def loaded(folder: Path) -> Loaded:
    """Return the gateway file as it stands."""
    return load(folder / "gateway.yaml", {})


def place(folder: Path) -> Path:
    """Write a gateway file with a policy."""
    (folder / "gateway.yaml").write_text(GATEWAY)
    (folder / "policies").mkdir()
    (folder / "policies" / "one.yaml").write_text(POLICY % "one")
    return folder


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    """And nothing is seen where nothing changed."""
    folder = place(tmp_path)
    watch = Watch(loaded(folder))
    assert not watch.changed()
    (folder / "policies" / "one.yaml").write_text(POLICY % "other")
    assert watch.changed()
    assert not watch.changed()


def test_a_change_while_the_last_one_is_loaded_is_not_lost(tmp_path: Path) -> None:
    """Loading takes its time: workers, then Envoy."""
    folder = place(tmp_path)
    watch = Watch(loaded(folder))
    (folder / "policies" / "one.yaml").write_text(POLICY % "second")
    assert watch.changed()
    newer = loaded(folder)
    (folder / "policies" / "one.yaml").write_text(POLICY % "third_one")
    watch.follow(newer)
    assert watch.changed()
    watch.follow(loaded(folder))
    assert not watch.changed()


def test_new_files_are_watched(tmp_path: Path) -> None:
    """They count as changed once, since nobody looked at them before they were loaded."""
    folder = place(tmp_path)
    watch = Watch(loaded(folder))
    (folder / "policies" / "two.yaml").write_text(POLICY % "two")
    assert watch.changed()
    watch.follow(loaded(folder))
    watch.changed()
    watch.follow(loaded(folder))
    assert not watch.changed()
    (folder / "policies" / "two.yaml").unlink()
    assert watch.changed()
