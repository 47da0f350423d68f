"""Noticing changes: edits, and those that come while an earlier one is being loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extproc.config.errors import ConfigError
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


def releases(folder: Path) -> Path:
    """Write two releases, `current` to the first of them, and return the gateway file's link.

    As a Kubernetes ConfigMap is mounted: every name in the folder leads through one link.
    """
    for number, policy in ((1, "one"), (2, "two")):
        release = folder / "releases" / str(number)
        release.mkdir(parents=True)
        (place(release) / "policies" / "one.yaml").write_text(POLICY % policy)
    (folder / "current").symlink_to("releases/1")
    (folder / "gateway.yaml").symlink_to("current/gateway.yaml")
    return folder / "gateway.yaml"


def swap(folder: Path, number: int) -> None:
    """Put `current` to another release, at once."""
    (folder / "next").symlink_to(f"releases/{number}")
    (folder / "next").replace(folder / "current")


@pytest.mark.parametrize("name", ["gateway.yaml", "current/gateway.yaml"])
def test_a_link_put_elsewhere_is_a_change(name: str, tmp_path: Path) -> None:
    """Though every file that was read is as it was; and it's a change once."""
    releases(tmp_path)
    file = tmp_path / name
    watch = Watch(load(file, {}))
    assert not watch.changed()
    swap(tmp_path, 2)
    assert watch.changed()
    watch.follow(load(file, {}))
    assert not watch.changed()
    assert list(load(file, {}).gateway.policies) == ["two"]
    (tmp_path / "releases" / "2" / "policies" / "one.yaml").write_text(POLICY % "three")
    assert watch.changed()


def test_a_link_put_elsewhere_while_a_version_is_loaded(tmp_path: Path) -> None:
    """What is followed is where the link led before the version was read."""
    file = releases(tmp_path)
    watch = Watch(load(file, {}))
    newer = load(file, {})
    swap(tmp_path, 2)
    watch.follow(newer)
    assert watch.changed()


def test_a_broken_release_can_be_put_right_where_it_is(tmp_path: Path) -> None:
    """The version in force is of another folder then."""
    file = releases(tmp_path)
    running = load(file, {})
    watch = Watch(running)
    broken = tmp_path / "releases" / "2" / "policies" / "one.yaml"
    broken.write_text("policies: {")
    swap(tmp_path, 2)
    assert watch.changed()
    with pytest.raises(ConfigError):
        load(file, {})
    watch.follow(running)
    assert not watch.changed()
    broken.write_text(POLICY % "mended")
    assert watch.changed()


@pytest.mark.parametrize("linked", [True, False])
def test_a_gateway_file_that_is_taken_away_is_a_change(linked: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Whether it is the file itself or a link to it."""
    file = releases(tmp_path) if linked else place(tmp_path) / "gateway.yaml"
    watch = Watch(load(file, {}))
    file.rename(tmp_path / "away")
    assert watch.changed()


def test_two_links_that_change_places(tmp_path: Path) -> None:
    """Each file looks as before; which of them is the gateway file doesn't."""
    folder = place(tmp_path)
    (folder / "gateway.yaml").rename(folder / "a.yaml")
    (folder / "b.yaml").write_text((folder / "a.yaml").read_text())
    text = "include: ['[ab].yaml']\n"
    (folder / "a.yaml").write_text(GATEWAY + text)
    (folder / "b.yaml").write_text("routes: []\n")
    (folder / "gateway.yaml").symlink_to("a.yaml")
    watch = Watch(loaded(folder))
    (folder / "next").symlink_to("b.yaml")
    (folder / "next").replace(folder / "gateway.yaml")
    assert watch.changed()
