"""The file of revocations: followed from where one was, and never half read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extproc.adapters.revocation_file import RevocationFile
from extproc.core.revocation import BadRevocation, Revocation, Revoked
from extproc.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

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
