"""Noticing that a gateway file, or something it uses, changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.config.source import followed

if TYPE_CHECKING:
    from pathlib import Path

    from extproc.config.load import Loaded

_Stamp = tuple[int, int, int] | None
_UNKNOWN: _Stamp = (0, 0, 0)


class Watch:
    """Compares what files look like; works for edits, renames and swapped links alike.

    Where the gateway file leads is followed anew at each look: it, or a folder on its way, may be
    a link that is put elsewhere as a whole (`current` to `releases/2`, a mounted ConfigMap) while
    everything that was read stays as it is.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
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
        self._loaded = loaded
        target, before = self._seen
        files = self._watched(followed(loaded.path))
        self._seen = target, {str(file): before.get(str(file), _UNKNOWN) for file in files}

    def _look(self) -> tuple[Path, dict[str, _Stamp]]:
        """Return where the gateway file is, and what everything it uses looks like."""
        target = followed(self._loaded.path)
        return target, {str(file): _stamp(file) for file in self._watched(target)}

    def _watched(self, target: Path) -> set[Path]:
        """Return files that were used, and those that an include would now find.

        Also at the same places of the folder where the gateway file is now: what was swapped in
        and couldn't be loaded may be put right there.
        """
        loaded, found = self._loaded, {target}
        for folder in {loaded.folder, target.parent}:
            found |= {folder / file.relative_to(loaded.folder) for file in loaded.files}
            for pattern in loaded.globs:
                found |= set(folder.glob(pattern))
        return found


def _stamp(file: Path) -> _Stamp:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
