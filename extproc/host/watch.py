"""Noticing that a gateway file, or something it uses, changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from extproc.config.load import Loaded

_Stamp = tuple[int, int, int] | None
_UNKNOWN: _Stamp = (0, 0, 0)


class Watch:
    """Compares what files look like; works for edits, renames and swapped links alike."""

    def __init__(self, loaded: Loaded) -> None:
        self._files = loaded.files
        self._globs = loaded.globs
        self._folder = loaded.folder
        self._seen = self._look()

    def changed(self) -> bool:
        """Say whether anything changed since the last call."""
        now = self._look()
        changed, self._seen = now != self._seen, now
        return changed

    def follow(self, loaded: Loaded) -> None:
        """Watch what a newer version uses.

        What was looked at last stands for the files of both: that was before the version was
        loaded, so a change that came meanwhile is still seen. A file that is new here counts as
        changed once.
        """
        self._files, self._globs, self._folder = loaded.files, loaded.globs, loaded.folder
        before = self._seen
        self._seen = {str(file): before.get(str(file), _UNKNOWN) for file in self._watched()}

    def _look(self) -> dict[str, _Stamp]:
        return {str(file): _stamp(file) for file in self._watched()}

    def _watched(self) -> set[Path]:
        """Return files that were used, and those that an include would now find."""
        found = set(self._files)
        for pattern in self._globs:
            found |= set(self._folder.glob(pattern))
        return found


def _stamp(file: Path) -> _Stamp:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
