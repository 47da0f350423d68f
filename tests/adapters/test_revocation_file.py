"""The file of revocations: followed from where one was, and never half read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extproc.adapters.revocation_file import RevocationFile
from extproc.core.revocation import BadRevocation, Revocation, Revoked
from extproc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = ManualClock().now()


def named(name: str, until: float = NOW + 10) -> Revocation:
    """Return one of a token."""
    return Revocation(token=name, at=NOW, until=until)


def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """Each line once, also those from before."""
    path = tmp_path / "revoked"
    writer, reader, revoked = RevocationFile(path), RevocationFile(path), Revoked(ManualClock())
    assert len(writer.open(NOW)) == 0
    writer.append(named("a"))
    for name in ("b", "c"):
        reader.follow(revoked)
        writer.append(named(name))
    reader.follow(revoked)
    assert len(revoked) == 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_ends_in_the_middle(tmp_path: Path) -> None:
    """It was never acknowledged; after the next start it is gone."""
    path = tmp_path / "revoked"
    writer = RevocationFile(path)
    writer.open(NOW)
    writer.append(named("a"))
    with path.open("ab") as output:
        output.write(b'{"token":"b"')
    revoked = Revoked(ManualClock())
    RevocationFile(path).follow(revoked)
    assert len(revoked) == 1
    assert len(RevocationFile(path).open(NOW)) == 1
    assert path.read_bytes().count(b"\n") == 1


def test_what_is_over_is_left_out(tmp_path: Path) -> None:
    """At the next start."""
    path = tmp_path / "revoked"
    writer = RevocationFile(path)
    writer.open(NOW)
    writer.append(named("a", NOW + 1))
    writer.append(named("b"))
    assert len(RevocationFile(path).open(NOW + 5)) == 1


@pytest.mark.parametrize("line", [b"{}", b"[]", b"x", b'{"token":"a","subject":"b"}', b'{"x":1}'])
def test_a_line_that_is_none(tmp_path: Path, line: bytes) -> None:
    """A file that somebody broke is an error, not an empty list."""
    path = tmp_path / "revoked"
    path.write_bytes(line + b"\n")
    with pytest.raises(BadRevocation, match="revoked: a line is no revocation"):
        RevocationFile(path).open(NOW)


def _rotated(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.touch()


def _swapped(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _garbled(path: Path) -> None:
    path.write_bytes(b"garbage\n" * 20)


@pytest.mark.parametrize(
    "what", [_rotated, _swapped, _cut, _garbled, Path.unlink, lambda path: path.write_bytes(b"")]
)
@pytest.mark.parametrize("soon", [True, False])
def test_what_others_do_to_the_file_is_undone(
    what: Callable[[Path], object], tmp_path: Path, *, soon: bool
) -> None:
    """What was acknowledged stays in force, for workers old and new, whoever notices first."""
    path = tmp_path / "folder" / "revoked"
    path.parent.mkdir()
    writer, reader = RevocationFile(path), RevocationFile(path)
    revoked, fresh = Revoked(ManualClock()), Revoked(ManualClock())
    writer.open(NOW)
    for name in ("a", "b"):
        writer.append(named(name))
    reader.follow(revoked)
    assert not writer.mend()
    what(path)
    if soon:
        assert writer.mend()
    writer.append(named("c"))
    reader.follow(revoked)
    RevocationFile(path).follow(fresh)
    assert len(revoked) == len(fresh) == 3
    assert not writer.mend()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Two gateways that were given the same file by mistake."""
    path, names = tmp_path / "revoked", "abcdef"
    writers = [RevocationFile(path), RevocationFile(path)]
    for writer in writers:
        writer.open(NOW)
    for number, name in enumerate(names):
        writers[number % 2].append(named(name))
    revoked = Revoked(ManualClock())
    RevocationFile(path).follow(revoked)
    assert len(revoked) == len(names)


def test_no_file_is_no_empty_list(tmp_path: Path) -> None:
    """A worker that finds none would let in what was revoked."""
    with pytest.raises(FileNotFoundError):
        RevocationFile(tmp_path / "none").follow(Revoked(ManualClock()))
